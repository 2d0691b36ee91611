"""tools/client.py: asks a running appliance over verified TLS."""

from __future__ import annotations

import io
import json
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from app.tensors import Array, dtype_name
from tools.command_line import DONE, NO, parser, run
from tools.errors import ModelError
from tools.files import write_file
from tools.serving_client import ServingClient, Trust
from tools.serving_client.requests import Options
from tools.serving_client.trust import read_token

DESCRIPTION = """\
Asks a running appliance. The server is always verified: by the certificate that
the appliance printed (--cacert), its fingerprint, or the system's authorities.

  tools/client.py --cacert build/certificate.pem classify digits PICTURE.png
  tools/client.py --cacert build/certificate.pem infer digits image=PIXELS.npy
  tools/client.py --cacert build/certificate.pem metadata digits
  tools/client.py --cacert build/certificate.pem ready

Each has its own --help."""

DEFAULT_URL = "https://localhost:8443"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; gives its exit status."""
    options = _parser().parse_args(argv)
    return run(lambda: _ask(options))


def _parser() -> ArgumentParser:
    found = parser("tools/client.py", DESCRIPTION)
    found.add_argument("--url", default=DEFAULT_URL, help="of the appliance (%(default)s)")
    found.add_argument("--cacert", type=Path, metavar="PEM", help="certificates to trust")
    found.add_argument("--fingerprint", metavar="HEX", help="SHA-256 of the one to trust")
    found.add_argument("--token-file", type=Path, metavar="FILE", help="holds an API token")
    found.add_argument("--certificate", type=Path, metavar="PEM", help="of the client itself")
    found.add_argument("--private-key", type=Path, metavar="PEM", help="of that certificate")
    found.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS", help="(60)")
    commands = found.add_subparsers(required=True, metavar="COMMAND")
    _add_infer(commands.add_parser("infer", help="tensors in, tensors out"))
    _add_classify(commands.add_parser("classify", help="a picture in, labels out"))
    for name, action, meaning in (
        ("metadata", _metadata, "what the server or a model says of itself"),
        ("statistics", _statistics, "what models have done so far"),
        ("ready", _ready, "exit status 0 when the server or a model answers requests, else 1"),
    ):
        each = commands.add_parser(name, help=meaning)
        each.add_argument("model", nargs="?", help="a model's id; without it the server")
        each.set_defaults(action=action)
    commands.add_parser("models", help="every model version").set_defaults(action=_models)
    for name, action, meaning in (
        ("load", _load, "load a model, or switch to its new version"),
        ("unload", _unload, "unload a model when its requests are answered"),
    ):
        each = commands.add_parser(name, help=meaning)
        each.add_argument("model", help="a model's id")
        each.set_defaults(action=action)
    return found


def _add_infer(found: ArgumentParser) -> None:
    found.add_argument("model", help="a model's id")
    found.add_argument(
        "inputs", nargs="+", metavar="NAME=FILE.npy", help="one array for each of its inputs"
    )
    found.add_argument("--version", metavar="N", help="of the model; else the one that is served")
    found.add_argument("--want", action="append", default=[], metavar="NAME", help="this output")
    found.add_argument(
        "--classes", type=int, default=0, metavar="K", help="of wanted outputs: best"
    )
    found.add_argument("--json", action="store_true", help="send and ask for JSON, not bytes")
    found.add_argument("-o", "--output", type=Path, metavar="FILE.npz", help="where arrays go")
    found.set_defaults(action=_infer)


def _add_classify(found: ArgumentParser) -> None:
    found.add_argument("model", help="a model's id")
    found.add_argument("picture", type=Path, help="a PNG or JPEG file")
    found.add_argument("--top-k", type=int, default=5, metavar="K", help="labels (%(default)s)")
    found.set_defaults(action=_classify)


def _ask(options: Namespace) -> int:
    trust = Trust(
        ca_file=options.cacert,
        fingerprint=options.fingerprint,
        certificate=options.certificate,
        private_key=options.private_key,
        token=read_token(options.token_file) if options.token_file else None,
    )
    action: Callable[[ServingClient, Namespace], int] = options.action
    with ServingClient(options.url, trust, timeout_s=options.timeout) as client:
        return action(client, options)


def _infer(client: ServingClient, options: Namespace) -> int:
    inputs = dict(_read_input(each) for each in options.inputs)
    asked = Options(outputs=options.want, classes=options.classes, binary=not options.json)
    answer = client.infer(options.model, inputs, version=options.version, options=asked)
    if options.output is not None:
        _write(options.output, dict(answer.outputs))
        return DONE
    for name, array in answer.outputs.items():
        print(f"{name} {dtype_name(array)} {list(array.shape)}")
        print(np.array2string(array, threshold=100))
    return DONE


def _read_input(text: str) -> tuple[str, Array]:
    name, separator, path = text.partition("=")
    if not separator or not name:
        raise ModelError(f"expected NAME=FILE.npy, got {text!r}")
    try:
        array: Array = np.load(path, allow_pickle=False)
    except ValueError as error:
        raise ModelError(f"{path}: expected one array in NumPy's .npy format") from error
    if not isinstance(array, np.ndarray):
        raise ModelError(f"{path}: expected one array in NumPy's .npy format")
    return name, array


def _write(path: Path, arrays: dict[str, Array]) -> None:
    file = io.BytesIO()
    plain: dict[str, Any] = {
        name: array.astype(str) if array.dtype.kind == "O" else array
        for name, array in arrays.items()
    }
    np.savez(file, **plain)
    write_file(path, file.getvalue())


def _classify(client: ServingClient, options: Namespace) -> int:
    found = client.classify(options.model, options.picture.read_bytes(), top_k=options.top_k)
    table = Table(title=f"{options.picture.name}, {options.model} in {found.runtime}")
    table.add_column("label")
    table.add_column("probability", justify="right")
    for each in found.labels:
        table.add_row(each.label, f"{each.probability:.4f}")
    Console().print(table)
    return DONE


def _metadata(client: ServingClient, options: Namespace) -> int:
    return _show(client.metadata(options.model))


def _statistics(client: ServingClient, options: Namespace) -> int:
    return _show(client.statistics(options.model))


def _models(client: ServingClient, options: Namespace) -> int:
    del options
    return _show(client.models())


def _ready(client: ServingClient, options: Namespace) -> int:
    ready = client.is_ready(options.model)
    print(f"{options.model or options.url}: {'ready' if ready else 'not ready'}")
    return DONE if ready else NO


def _load(client: ServingClient, options: Namespace) -> int:
    client.load(options.model)
    print(f"{options.model}: loaded")
    return DONE


def _unload(client: ServingClient, options: Namespace) -> int:
    client.unload(options.model)
    print(f"{options.model}: unloaded")
    return DONE


def _show(found: object) -> int:
    print(json.dumps(found, indent=2))
    return DONE
