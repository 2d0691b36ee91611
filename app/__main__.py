"""Starts the appliance: configuration, keys, bundles, runners, TLS, serving."""

from __future__ import annotations

import argparse
import datetime
import gc
import ipaddress
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from app import __version__
from app.access.admission import Gate
from app.access.policy import read_policy
from app.aes import aes_problems
from app.audit import audit
from app.config import DEFAULT_PATH, Config, read_config
from app.cpu import cpu_problems
from app.dumps import forbid_dumps
from app.errors import ApplianceError, ConfigError
from app.keys import FolderKeySource, KeySource
from app.limits import RESCAN_S
from app.outlets import take_outlets
from app.runtime import OCCLUM, Runtime, detect
from app.server import logs
from app.server.application import create_application
from app.server.certificate import ServerIdentity, load_client_ca, load_identity, make_identity
from app.server.server import ApplianceServer
from app.server.tls.libraries import LIBRARIES
from app.server.tls.renewal import Material, RenewedEndpoint
from app.serving.accounts import Accounts
from app.serving.catalogue import Catalogue
from app.serving.repository import find_bundles
from app.serving.residence import Residence

ROOT_VARIABLE: Final = "OCCLUM_STAND_IN_ROOT"
"""Set by the stand-in when it has no sandbox: where the image's root folder lies on the host."""

CERTIFICATE_DAYS: Final = 90
_USAGE: Final = 2

_SWITCH_INTERVAL_S: Final = 0.0005


Say = Callable[[str], None]
"""Tells the person who starts the appliance a line."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the appliance outside of an image until SIGTERM or SIGINT: `python -m app`.

    Returns:
        0 after a clean stop, 1 when a model can't be served, 2 for a wrong configuration.
    """
    arguments = sys.argv[1:] if argv is None else argv
    if _in_occlum():
        return run_image(arguments)
    parser = argparse.ArgumentParser(prog="python -m app", description=__doc__)
    parser.add_argument("--config", type=Path, help=f"configuration file ({DEFAULT_PATH})")
    return _run(parser.parse_args(arguments).config)


def run_image(arguments: Sequence[str]) -> int:
    """Runs the appliance as the image's `/bin/app`, with the measured configuration and no other.

    Args:
        arguments: what followed the program's name. They are the host's and aren't measured, so
            with any of them nothing is read and nothing starts.

    Returns:
        As `main`.
    """
    if arguments:
        print(
            f"error: /bin/app takes no arguments, got {len(arguments)}: what it does is said by "
            f"the image's {DEFAULT_PATH}, which is measured; build another image to change it",
            file=sys.stderr,
        )
        return _USAGE
    return _run(None)


def _run(path: Path | None) -> int:
    forbid_dumps()
    outlets = take_outlets()
    logs.set_up(outlets.log)
    try:
        _serve(_read_config(path), lambda line: print(line, file=outlets.announcements))
    except ApplianceError as error:
        print(f"error: {error}", file=outlets.log)
        return _USAGE if isinstance(error, ConfigError) else 1
    return 0


def _in_occlum() -> bool:
    """Whether the system calls are Occlum's: its answer comes from inside the enclave."""
    return os.uname().sysname == OCCLUM


def _read_config(path: Path | None) -> Config:
    root = Path("/" if _in_occlum() else os.environ.get(ROOT_VARIABLE, "/"))
    return read_config(path or root / DEFAULT_PATH.relative_to("/"), root)


def _serve(config: Config, say: Say) -> None:
    runtime = detect(os.uname().sysname, os.environ, config.sgx_mode)
    found = audit(config, runtime, hardware={**aes_problems(config.tls_library), **cpu_problems()})
    say(f"cloister {__version__}: {found.banner[0]}")
    for line in found.banner[1:]:
        say(line)
    gate = _gate(config, say)
    keys = FolderKeySource(config.key_folder)
    accounts = Accounts()
    catalogue = _catalogue(config, keys, accounts, say)
    endpoint = _endpoint(config, runtime)
    server = ApplianceServer(
        create_application(
            catalogue,
            found,
            accounts=accounts,
            log_requests=config.log_requests,
            fingerprint=lambda: endpoint.identity.fingerprint,
        ),
        endpoint,
        (config.host, config.port),
        config.workers,
        f"cloister/{__version__} ({runtime.value})",
        gate=gate,
        accounts=accounts,
    )
    _announce(endpoint.identity, server.bind(), say)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop())
    # A thread that comes back from a kernel or from decrypting waits for another one's step of
    # Python this long at most; the ordinary 5 ms are as long as a small model's whole request.
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    # What lives until the end isn't looked through again: doing so stops every thread.
    gc.collect()
    gc.freeze()
    server.serve_forever()
    say("stopped")


def _catalogue(config: Config, keys: KeySource, accounts: Accounts, say: Say) -> Catalogue:
    ids = [model.model_id for model in config.models]
    twice = sorted({each for each in ids if ids.count(each) > 1})
    if twice:
        problems = [f"model {each!r} is configured twice" for each in twice]
        raise ConfigError("config.models", problems)
    max_delay_ns = config.max_delay_us * 1000
    residence = Residence(
        config.budget_bytes, accounts=accounts, max_delay_ns=max_delay_ns, report=say
    )
    catalogue = Catalogue(
        lambda: find_bundles(config, keys), residence, report=say, rescan_s=RESCAN_S
    )
    catalogue.start({model.model_id for model in config.models if model.bundle is not None})
    return catalogue


def _gate(config: Config, say: Say) -> Gate:
    if config.access_policy is None:
        if not config.insecure_open_access:
            say("no access policy: only health is served")
        return Gate(None, insecure_open_access=config.insecure_open_access)
    policy = read_policy(config.access_policy)
    say(f"access policy: {len(policy.tenants)} tenants")
    return Gate(policy)


def _endpoint(config: Config, runtime: Runtime) -> RenewedEndpoint:
    identity, client_ca = _identity(config, runtime), config.client_ca

    def load() -> Material:
        return Material(identity(), None if client_ca is None else load_client_ca(client_ca))

    files = [] if config.tls is None else [config.tls.certificate, config.tls.private_key]
    files += [] if client_ca is None else [client_ca]
    return RenewedEndpoint(LIBRARIES[config.tls_library], load, files)


def _identity(config: Config, runtime: Runtime) -> Callable[[], ServerIdentity]:
    """Gives what reads the certificate and key anew, or one that is made now and stays."""
    tls = config.tls
    if tls is not None:
        return lambda: load_identity(tls.certificate, tls.private_key, _now())
    made = _made_identity(config, runtime)
    return lambda: made


def _made_identity(config: Config, runtime: Runtime) -> ServerIdentity:
    addresses = [name for name in config.names if _is_address(name)]
    return make_identity(
        "cloister",
        f"SIMULATION {runtime.value}" if runtime.is_simulation else runtime.value,
        dns_names=[name for name in config.names if name not in addresses],
        addresses=addresses,
        valid_days=CERTIFICATE_DAYS,
        now=_now(),
    )


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _announce(identity: ServerIdentity, address: tuple[str, int], say: Say) -> None:
    say("certificate for clients:")
    say(identity.certificate_pem.decode().rstrip())
    say(f"fingerprint {identity.fingerprint}")
    say(f"ready on {address[0]} port {address[1]}")


if __name__ == "__main__":
    sys.exit(main())
