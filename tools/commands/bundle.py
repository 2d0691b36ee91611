"""tools/bundle.py: encrypts a model's partitions; makes keys; looks into bundles."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.table import Table

from app.bundle import MANIFEST_FILE, BundleReader, read_manifest
from app.errors import BundleError, BundleFormatError
from app.keys import read_key_file
from app.manifest import MAX_MANIFEST_BYTES, Manifest, parse_manifest
from tools.bundling.keys import (
    make_model_key,
    make_owner_key,
    public_key_path,
    read_owner_key,
    read_public_key,
)
from tools.bundling.writer import BundleKeys, write_bundle
from tools.command_line import DONE, parser, progress, run
from tools.commands.arguments import add_limits
from tools.confinement.child import Confinement, confine
from tools.console import say, terminal
from tools.errors import ModelError
from tools.model_folder import open_folder
from tools.sizes import format_size

DESCRIPTION = """\
Encrypts a model's partitions into a bundle that only the enclave can read.

  tools/bundle.py partitions/NAME --key KEYFILE -o build/NAME.bundle
  tools/bundle.py keygen model KEYFILE      a model key
  tools/bundle.py keygen owner OWNER.pem    the owner's signing key and OWNER.pub
  tools/bundle.py inspect BUNDLE            what anybody can read of a bundle
  tools/bundle.py verify BUNDLE --key KEYFILE --owner-public-key OWNER.pub

Each has its own --help."""

_SUBCOMMANDS: Final = ("write", "keygen", "inspect", "verify", "id")
_DEFAULT_OWNER_KEY: Final = Path("build/owner/owner.pem")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; gives its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] not in (*_SUBCOMMANDS, "-h", "--help"):
        words.insert(0, "write")
    options = _parser().parse_args(words)
    return run(lambda: options.action(options))


def _parser() -> ArgumentParser:
    found = parser("tools/bundle.py", DESCRIPTION)
    commands = found.add_subparsers(required=True, metavar="COMMAND")
    _add_write(commands.add_parser("write", help="encrypt a model's partitions"))
    keygen = commands.add_parser("keygen", help="make a key").add_subparsers(required=True)
    for kind, action, meaning in (
        ("model", _make_model_key, "32 bytes that a model's bundles are encrypted with"),
        ("owner", _make_owner_key, "the key that signs manifests, and its public half"),
    ):
        each = keygen.add_parser(kind, help=meaning)
        each.add_argument("file", type=Path, help="the new key, mode 0600; never overwritten")
        each.set_defaults(action=action)
    inspect = commands.add_parser("inspect", help="show what a bundle's manifest says")
    inspect.add_argument("bundle", type=Path)
    inspect.set_defaults(action=_inspect)
    _add_verify(commands.add_parser("verify", help="check signature and decrypt every object"))
    shown = commands.add_parser("id", help="print a model's id: its key file is named ID.key")
    shown.add_argument("model", type=Path, metavar="partitions/NAME", help="the model's folder")
    shown.set_defaults(action=_show_id)
    return found


def _add_write(found: ArgumentParser) -> None:
    found.add_argument("model", type=Path, metavar="partitions/NAME", help="the model's folder")
    found.add_argument("--key", type=Path, required=True, metavar="KEYFILE", help="the model key")
    found.add_argument(
        "--owner-key",
        type=Path,
        default=_DEFAULT_OWNER_KEY,
        metavar="PEM",
        help=f"the owner's signing key ({_DEFAULT_OWNER_KEY})",
    )
    found.add_argument(
        "-o", "--output", type=Path, required=True, metavar="BUNDLE", help="the bundle's folder"
    )
    found.add_argument("--quiet", action="store_true", help="print nothing but errors")
    add_limits(found)
    found.set_defaults(action=_write)


def _add_verify(found: ArgumentParser) -> None:
    found.add_argument("bundle", type=Path)
    found.add_argument("--key", type=Path, required=True, metavar="KEYFILE", help="the model key")
    found.add_argument(
        "--owner-public-key",
        type=Path,
        default=public_key_path(_DEFAULT_OWNER_KEY),
        metavar="PUB",
        help="who must have signed (%(default)s)",
    )
    found.add_argument(
        "--minimum-version", type=int, default=1, metavar="N", help="oldest model version accepted"
    )
    found.set_defaults(action=_verify)


def _write(options: Namespace) -> int:
    keys = BundleKeys(read_key_file(options.key), read_owner_key(options.owner_key))
    confine(
        Confinement(
            models=[options.model],
            folders=[options.output],
            seconds=options.time_limit,
            memory_bytes=options.memory_limit,
        )
    )
    folder = open_folder(options.model)
    with progress("encrypting", len(folder.plan.partitions), quiet=options.quiet) as done:
        manifest = write_bundle(folder, keys, options.output, progress=done)
    if not options.quiet:
        _show(options.output, manifest)
    return DONE


def _make_model_key(options: Namespace) -> int:
    make_model_key(options.file)
    say(f"{options.file}: a new model key")
    return DONE


def _make_owner_key(options: Namespace) -> int:
    public_path = make_owner_key(options.file)
    say(f"{options.file}: a new owner key; its public half is {public_path}")
    return DONE


def _inspect(options: Namespace) -> int:
    _require_bundle(options.bundle)
    with (options.bundle / MANIFEST_FILE).open("rb") as file:
        raw = file.read(MAX_MANIFEST_BYTES + 1)
    if len(raw) > MAX_MANIFEST_BYTES:
        raise BundleFormatError(f"{MANIFEST_FILE}: more than {MAX_MANIFEST_BYTES} bytes")
    _show(options.bundle, parse_manifest(raw))
    say("not checked: 'tools/bundle.py verify' checks the signature and every object")
    return DONE


def _show_id(options: Namespace) -> int:
    say(open_folder(options.model).model_id)
    return DONE


def _require_bundle(path: Path) -> None:
    if not (path / MANIFEST_FILE).is_file():
        raise ModelError(f"{path}: isn't a bundle, there is no {MANIFEST_FILE} in it")


def _verify(options: Namespace) -> int:
    _require_bundle(options.bundle)
    owner = read_public_key(options.owner_public_key)
    manifest = read_manifest(options.bundle, owner, minimum_version=1)
    identity = manifest.identity
    if identity.model_version < options.minimum_version:
        raise BundleError(
            f"{options.bundle}: version {identity.model_version} is older than "
            f"{options.minimum_version}"
        )
    BundleReader(options.bundle, manifest, read_key_file(options.key)).verify()
    say(
        f"{options.bundle}: {identity.model_id} version {identity.model_version}, "
        f"{len(manifest.partitions)} partitions: signature and every object hold"
    )
    return DONE


def _show(path: Path, manifest: Manifest) -> None:
    identity = manifest.identity
    table = Table(title=f"{path}: {identity.model_id} version {identity.model_version}")
    for heading in ("partition", "structure", "weights"):
        table.add_column(heading, justify="right")
    for index, sizes in enumerate(manifest.partitions):
        table.add_row(
            str(index), format_size(sizes.structure_bytes), format_size(sizes.weights_bytes)
        )
    console = terminal()
    console.print(table)
    console.print(
        f"bundle id {identity.bundle_id.hex()}\n"
        f"optimised for onnxruntime {manifest.onnxruntime} ({manifest.optimization}), "
        f"planned for {format_size(manifest.budget_bytes)}, "
        f"encrypted in chunks of {format_size(manifest.chunk_bytes)}",
        soft_wrap=True,
    )
