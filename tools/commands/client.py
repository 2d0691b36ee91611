"""tools/client.py: asks a running appliance over verified TLS."""

from __future__ import annotations

import io
import json
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from argparse import _SubParsersAction as SubParsersAction
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from app.errors import InputError
from app.tensors import Array, dtype_name
from tools.command_line import DONE, NO, parser, run
from tools.commands.arguments import count, seconds, url
from tools.console import say, terminal
from tools.files import write_file
from tools.serving_client import ServingClient, Trust
from tools.serving_client.requests import Options, encode, zeros
from tools.serving_client.trust import read_token

DESCRIPTION = """\
Asks a running appliance. The server is always verified: by the certificate that
the appliance printed when it started (--cacert), by its fingerprint, or by the
system's authorities. Whoever has only a URL asks the operator for one of them.
These options come before COMMAND; each command has its own --help.

Exit status: 0 done or yes, 1 refused, not reached or not trusted, 2 wrong usage
or an input that can't be used, 130 stopped by Ctrl-C."""

EPILOG = """\
examples:
  tools/client.py --url https://HOST:8443 --fingerprint AB:CD:… models
  tools/client.py --cacert build/certificate.pem metadata digits
  tools/client.py --cacert build/certificate.pem classify digits PICTURE.png
  tools/client.py --cacert build/certificate.pem infer digits image=PIXELS.npy
  tools/client.py --cacert build/certificate.pem try digits
  tools/client.py --cacert build/certificate.pem --token-file FILE ready digits"""

DEFAULT_URL = "https://localhost:8443"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; gives its exit status."""
    options = _parser().parse_args(argv)
    return run(lambda: _ask(options))


def _parser() -> ArgumentParser:
    found = parser("tools/client.py", DESCRIPTION, EPILOG)
    found.add_argument(
        "--url", type=url, default=DEFAULT_URL, help="of the appliance (%(default)s)"
    )
    found.add_argument("--cacert", type=Path, metavar="PEM", help="certificate to trust")
    found.add_argument("--fingerprint", metavar="HEX", help="its SHA-256 instead")
    found.add_argument("--token-file", type=Path, metavar="FILE", help="holds an API token")
    found.add_argument("--certificate", type=Path, metavar="PEM", help="of the client itself")
    found.add_argument("--private-key", type=Path, metavar="PEM", help="of that certificate")
    found.add_argument(
        "--timeout", type=seconds, default=60.0, metavar="SECONDS", help="for every wait (60)"
    )
    commands = found.add_subparsers(required=True, metavar="COMMAND")
    _add_infer(_command(commands, "infer", "tensors in, tensors out"))
    _add_classify(_command(commands, "classify", "a picture in, labels out"))
    for name, action, meaning in (
        ("metadata", _metadata, "what the server or a model says of itself"),
        ("statistics", _statistics, "what models have done so far"),
        ("ready", _ready, "exit status 0 when the server or a model answers requests, else 1"),
    ):
        each = _command(commands, name, meaning)
        each.add_argument("model", nargs="?", help="a model's id; without it the server")
        each.set_defaults(action=action)
    _command(commands, "models", "every model version").set_defaults(action=_models)
    for name, action, meaning in (
        ("try", _try, "zeros in the shapes that a model takes, tensors out"),
        ("example", _example, "print such a request as JSON, for curl -d @FILE"),
        ("load", _load, "load a model, or switch to its new version"),
        ("unload", _unload, "unload a model when its requests are answered"),
    ):
        each = _command(commands, name, meaning)
        each.add_argument("model", help="a model's id")
        each.set_defaults(action=action)
    return found


def _command(commands: SubParsersAction[ArgumentParser], name: str, does: str) -> ArgumentParser:
    found: ArgumentParser = commands.add_parser(name, help=does, description=does)
    return found


def _add_infer(found: ArgumentParser) -> None:
    found.add_argument("model", help="a model's id")
    found.add_argument(
        "inputs",
        nargs="+",
        type=_place,
        metavar="NAME=FILE.npy",
        help="one array for each of its inputs; 'metadata MODEL' shows them",
    )
    found.add_argument("--version", metavar="N", help="of the model; else the one that is served")
    found.add_argument("--want", action="append", default=[], metavar="NAME", help="this output")
    found.add_argument(
        "--classes", type=count, default=0, metavar="K", help="of wanted outputs: best"
    )
    found.add_argument("--json", action="store_true", help="send and ask for JSON, not bytes")
    found.add_argument("-o", "--output", type=Path, metavar="FILE.npz", help="where arrays go")
    found.set_defaults(action=_infer)


def _add_classify(found: ArgumentParser) -> None:
    found.add_argument("model", help="a model's id")
    found.add_argument("picture", type=Path, help="a PNG or JPEG file")
    found.add_argument("--top-k", type=count, default=5, metavar="K", help="labels (%(default)s)")
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
    inputs = {name: _read_array(path) for name, path in options.inputs}
    asked = Options(outputs=options.want, classes=options.classes, binary=not options.json)
    answer = client.infer(options.model, inputs, version=options.version, options=asked)
    if options.output is not None:
        _write(options.output, dict(answer.outputs))
        return DONE
    return _print(answer.outputs)


def _try(client: ServingClient, options: Namespace) -> int:
    return _print(client.infer(options.model, zeros(client.inputs(options.model))).outputs)


def _print(outputs: Mapping[str, Array]) -> int:
    for name, array in outputs.items():
        say(f"{name} {dtype_name(array)} {list(array.shape)}")
        say(np.array2string(array, threshold=100))
    return DONE


def _place(text: str) -> tuple[str, Path]:
    name, separator, path = text.rpartition("=")
    if not separator or not name or not path:
        raise ArgumentTypeError(f"expected NAME=FILE.npy, got {text!r}")
    return name, Path(path)


def _read_array(path: Path) -> Array:
    try:
        array: Array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise InputError(f"{path}: expected one array in NumPy's .npy format") from error
    if not isinstance(array, np.ndarray):
        raise InputError(f"{path}: expected one array in NumPy's .npy format")
    return array


def _example(client: ServingClient, options: Namespace) -> int:
    (request,), _ = encode(zeros(client.inputs(options.model)), Options(binary=False))
    say(bytes(request).decode())
    return DONE


def _write(path: Path, arrays: dict[str, Array]) -> None:
    file = io.BytesIO()
    plain: dict[str, Any] = {
        name: array.astype(str) if array.dtype.kind == "O" else array
        for name, array in arrays.items()
    }
    np.savez(file, **plain)
    write_file(path, file.getvalue())


def _classify(client: ServingClient, options: Namespace) -> int:
    answer = client.classify(options.model, options.picture.read_bytes(), top_k=options.top_k)
    title = f"{options.picture.name}, {options.model} in {answer.runtime}"
    table = Table(title=title)
    table.add_column("label")
    table.add_column("probability", justify="right")
    for each in answer.labels:
        table.add_row(each.label, f"{each.probability:.4f}")
    terminal().print(table)
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
    say(f"{options.model or options.url}: {'ready' if ready else 'not ready'}")
    return DONE if ready else NO


def _load(client: ServingClient, options: Namespace) -> int:
    client.load(options.model)
    say(f"{options.model}: loaded")
    return DONE


def _unload(client: ServingClient, options: Namespace) -> int:
    client.unload(options.model)
    say(f"{options.model}: unloaded")
    return DONE


def _show(answer: object) -> int:
    say(json.dumps(answer, indent=2))
    return DONE
