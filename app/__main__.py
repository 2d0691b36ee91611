"""Starts the appliance: configuration, keys, bundles, runners, TLS, serving."""

from __future__ import annotations

import argparse
import datetime
import ipaddress
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from app import __version__
from app.bundle import BundleReader, read_manifest
from app.config import DEFAULT_PATH, Config, ModelConfig, read_config
from app.cpu import ANY, this_cpu
from app.engine import VERSION, OrtEngine
from app.errors import ApplianceError, BundleFormatError, ConfigError
from app.keys import FolderKeySource, KeySource
from app.runner import Runner
from app.runtime import Runtime, detect
from app.schedule import LANES
from app.server.application import create_application
from app.server.certificate import ServerIdentity, load_identity, make_identity
from app.server.http import ApplianceServer
from app.serving import Catalogue, ServedModel

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
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(message)s")
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
    _say(f"cloister {__version__}: {runtime.banner}")
    for name in config.insecure_settings():
        _say(f"INSECURE: {name} is set")
    keys = FolderKeySource(config.key_folder)
    catalogue = Catalogue(_load_models(config, keys))
    identity = _identity(config, runtime)
    server = ApplianceServer(
        create_application(catalogue, runtime),
        identity,
        (config.host, config.port),
        config.workers,
        f"cloister/{__version__} ({runtime.value})",
    )
    _announce(identity, server.bind())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop())
    server.serve_forever()
    _say("stopped")


def _load_models(config: Config, keys: KeySource) -> Mapping[str, ServedModel]:
    found: dict[str, ServedModel] = {}
    for each in config.models:
        _say(f"loading {each.bundle}")
        model = _load_model(config, each, keys)
        if model.model_id in found:
            raise ConfigError(str(each.bundle), [f"model {model.model_id!r} is configured twice"])
        found[model.model_id] = model
    return found


def _load_model(config: Config, wanted: ModelConfig, keys: KeySource) -> ServedModel:
    manifest = read_manifest(
        wanted.bundle,
        wanted.owner,
        minimum_version=wanted.minimum_version,
        model_id=wanted.model_id,
    )
    if manifest.onnxruntime != VERSION and manifest.optimization != "none":
        raise BundleFormatError(
            f"optimised for onnxruntime {manifest.onnxruntime}, "
            f"this image has {VERSION}; write the bundle again with the image's version"
        )
    if manifest.cpu not in (ANY, cpu := this_cpu()):
        raise BundleFormatError(
            f"{wanted.bundle}: optimised for CPUs of the class {manifest.cpu}, this one is {cpu}; "
            "partition the model with '--optimization extended' for any, or on such a CPU"
        )
    identity = manifest.identity
    # With one computing thread another core is free to decrypt meanwhile.
    overlap = config.inference_threads == 1
    model_key = keys.model_key(identity.model_id)
    reader = BundleReader(wanted.bundle, manifest, model_key, lanes=LANES)
    # Every object is authenticated before anything is loaded.
    reader.verify()
    card = reader.read_card()
    engine = OrtEngine(config.inference_threads)
    runner = Runner(reader, engine, config.budget_bytes, card.inputs, card.outputs, overlap=overlap)
    _say(
        f"model {identity.model_id} version {identity.model_version}: "
        f"{reader.partition_count} partitions, every object authenticated, "
        f"{len(runner.schedule.pinned)} of them kept in memory"
    )
    return ServedModel(identity.model_id, identity.model_version, card, runner)


def _identity(config: Config, runtime: Runtime) -> ServerIdentity:
    now = datetime.datetime.now(datetime.UTC)
    if config.tls is not None:
        return load_identity(config.tls.certificate, config.tls.private_key, now)
    addresses = [name for name in config.names if _is_address(name)]
    return make_identity(
        "cloister",
        f"SIMULATION {runtime.value}" if runtime.is_simulation else runtime.value,
        dns_names=[name for name in config.names if name not in addresses],
        addresses=addresses,
        valid_days=CERTIFICATE_DAYS,
        now=now,
    )


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
