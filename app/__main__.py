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
from app.audit import audit
from app.config import DEFAULT_PATH, Config, read_config
from app.errors import ApplianceError, ConfigError
from app.keys import FolderKeySource, KeySource
from app.limits import RESCAN_S
from app.runtime import Runtime, detect
from app.server import logs
from app.server.application import create_application
from app.server.certificate import ServerIdentity, load_client_ca, load_identity, make_identity
from app.server.http import ApplianceServer
from app.server.tls.libraries import LIBRARIES
from app.server.tls.renewal import Material, RenewedEndpoint
from app.serving.catalogue import Catalogue
from app.serving.repository import find_bundles
from app.serving.residence import Residence

ROOT_VARIABLE: Final = "OCCLUM_STAND_IN_ROOT"
"""Set by the stand-in when it has no sandbox: where the image's root folder lies on the host."""

CERTIFICATE_DAYS: Final = 90
_USAGE: Final = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the appliance until SIGTERM or SIGINT.

    Returns:
        0 after a clean stop, 1 when a model can't be served, 2 for a wrong configuration.
    """
    parser = argparse.ArgumentParser(prog="/bin/app", description=__doc__)
    parser.add_argument("--config", type=Path, help=f"configuration file ({DEFAULT_PATH})")
    options = parser.parse_args(argv)
    try:
        _serve(_read_config(options.config))
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return _USAGE
    except ApplianceError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _read_config(path: Path | None) -> Config:
    root = Path(os.environ.get(ROOT_VARIABLE, "/"))
    return read_config(path or root / DEFAULT_PATH.relative_to("/"), root)


def _serve(config: Config) -> None:
    runtime = detect(os.uname().sysname, os.environ, config.sgx_mode)
    found = audit(config, runtime)
    logs.set_up(sys.stderr)
    _say(f"cloister {__version__}: {found.banner[0]}")
    for line in found.banner[1:]:
        _say(line)
    gate = _gate(config)
    keys = FolderKeySource(config.key_folder)
    catalogue = _catalogue(config, keys)
    endpoint = _endpoint(config, runtime)
    server = ApplianceServer(
        create_application(
            catalogue,
            found,
            log_requests=config.log_requests,
            fingerprint=lambda: endpoint.identity.fingerprint,
        ),
        endpoint,
        (config.host, config.port),
        config.workers,
        f"cloister/{__version__} ({runtime.value})",
        gate=gate,
    )
    _announce(endpoint.identity, server.bind())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop())
    # What lives until the end isn't looked through again: doing so stops every thread.
    gc.collect()
    gc.freeze()
    server.serve_forever()
    _say("stopped")


def _catalogue(config: Config, keys: KeySource) -> Catalogue:
    ids = [model.model_id for model in config.models]
    twice = sorted({each for each in ids if ids.count(each) > 1})
    if twice:
        problems = [f"model {each!r} is configured twice" for each in twice]
        raise ConfigError("config.models", problems)
    max_delay_ns = config.max_delay_us * 1000
    residence = Residence(config.budget_bytes, max_delay_ns=max_delay_ns, report=_say)
    catalogue = Catalogue(
        lambda: find_bundles(config, keys), residence, report=_say, rescan_s=RESCAN_S
    )
    catalogue.start({model.model_id for model in config.models if model.bundle is not None})
    return catalogue


def _gate(config: Config) -> Gate:
    if config.access_policy is None:
        if not config.insecure_open_access:
            _say("no access policy: only health is served")
        return Gate(None, insecure_open_access=config.insecure_open_access)
    policy = read_policy(config.access_policy)
    _say(f"access policy: {len(policy.tenants)} tenants")
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


def _announce(identity: ServerIdentity, address: tuple[str, int]) -> None:
    _say("certificate for clients:")
    _say(identity.certificate_pem.decode().rstrip())
    _say(f"fingerprint {identity.fingerprint}")
    _say(f"ready on {address[0]} port {address[1]}")


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
