"""tools/bundle.py: encrypts a model's partitions; makes keys; looks into bundles."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from rich.table import Table

from app.bundle import MANIFEST_FILE, BundleReader, read_manifest
from app.errors import BundleError, BundleFormatError
from app.files import WrongFileError, read_file
from app.keys import read_key_file
from app.manifest import MAX_MANIFEST_BYTES, Manifest, parse_manifest
from app.release import NAME, read_time, write_time
from tools.bundling.keys import (
    make_model_key,
    make_owner_key,
    public_key_path,
    read_owner_key,
    read_public_key,
)
from tools.bundling.writer import BundleKeys, Period, write_bundle
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
  tools/bundle.py id partitions/NAME        the model's id, alone on its line

Each has its own --help."""

_SUBCOMMANDS: Final = ("write", "keygen", "inspect", "verify", "id")
_MOST_DAY_DIGITS: Final = 6
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
    _add_id(commands.add_parser("id", help="print an id, alone on its line"))
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
    found.add_argument(
        "--expires",
        type=_expiry,
        metavar="TIME",
        help="from when on no appliance serves the bundle: 2027-01-31T00:00:00Z, 2027-01-31, or "
        "90d for days after its release (default: never)",
    )
    found.add_argument(
        "--released",
        type=_moment,
        metavar="TIME",
        help="when the bundle is released (default: now)",
    )
    found.add_argument(
        "--key-id",
        type=_key_id,
        metavar="NAME",
        help="the model key's name in the manifest (default: 16 hex digits that are derived from "
        "the key and tell nothing of it)",
    )
    found.add_argument("--quiet", action="store_true", help="print nothing but errors")
    add_limits(found)
    found.set_defaults(action=_write)


def _add_id(found: ArgumentParser) -> None:
    found.add_argument("path", type=Path, metavar="partitions/NAME", help="a model, or a bundle")
    which = found.add_mutually_exclusive_group()
    for name, meaning in (
        ("model", "the model's id, as which its key file is named (default)"),
        ("bundle", "the bundle's own id, as answers hold it and --deny-bundle takes it"),
        ("key", "the id of the model key that the bundle is encrypted with"),
    ):
        which.add_argument(
            f"--{name}", dest="which", action="store_const", const=name, help=meaning
        )
    found.set_defaults(action=_show_id, which="model")


def _moment(text: str) -> datetime:
    try:
        return read_time(text if "T" in text else f"{text}T00:00:00Z")
    except ValueError as error:
        raise ArgumentTypeError(
            f"expected 2027-01-31T00:00:00Z or 2027-01-31, both UTC, not {text!r}"
        ) from error


def _expiry(text: str) -> datetime | timedelta:
    days = text.removesuffix("d")
    if days == text:
        return _moment(text)
    if not days.isdecimal() or len(days) > _MOST_DAY_DIGITS:
        raise ArgumentTypeError(f"expected a number of days as 90d, not {text!r}")
    return timedelta(days=int(days))


def _key_id(text: str) -> str:
    if not NAME.fullmatch(text):
        raise ArgumentTypeError(
            f"expected at most 64 of a-z, 0-9, '.', '_', '-', starting with a letter or digit, "
            f"not {text!r}"
        )
    return text


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
    keys = BundleKeys(read_key_file(options.key), read_owner_key(options.owner_key), options.key_id)
    period = _period(options.released, options.expires)
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
        manifest = write_bundle(folder, keys, options.output, progress=done, period=period)
    if not options.quiet:
        _show(options.output, manifest)
    return DONE


def _period(released: datetime | None, expires: datetime | timedelta | None) -> Period:
    """Gives the period that was asked for; days count from the release on."""
    start = released or Period.from_now().released_at
    try:
        return Period(start, start + expires if isinstance(expires, timedelta) else expires)
    except OverflowError as error:
        raise ModelError("--expires: no calendar has that day") from error


def _make_model_key(options: Namespace) -> int:
    make_model_key(options.file)
    say(f"{options.file}: a new model key")
    return DONE


def _make_owner_key(options: Namespace) -> int:
    public_path = make_owner_key(options.file)
    say(f"{options.file}: a new owner key; its public half is {public_path}")
    return DONE


def _inspect(options: Namespace) -> int:
    _show(options.bundle, _unchecked_manifest(options.bundle))
    say("not checked: 'tools/bundle.py verify' checks the signature and every object")
    return DONE


def _show_id(options: Namespace) -> int:
    if not (options.path / MANIFEST_FILE).is_file() and options.which == "model":
        say(open_folder(options.path).model_id)
        return DONE
    manifest = _unchecked_manifest(options.path)
    ids = {
        "model": manifest.identity.model_id,
        "bundle": manifest.identity.bundle_id.hex(),
        "key": manifest.release.key_id if manifest.release else None,
    }
    found = ids[options.which]
    if found is None:
        raise ModelError(f"{options.path}: a bundle of format 1 names no key")
    say(found)
    return DONE


def _unchecked_manifest(bundle: Path) -> Manifest:
    """Reads a manifest without looking at who signed it."""
    _require_bundle(bundle)
    try:
        return parse_manifest(read_file(bundle / MANIFEST_FILE, MAX_MANIFEST_BYTES))
    except WrongFileError as error:
        raise BundleFormatError(f"{bundle / MANIFEST_FILE}: {error}") from error


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
    manifest.check_expiry(datetime.now(UTC))
    BundleReader(options.bundle, manifest, read_key_file(options.key)).verify()
    if manifest.release is None:
        say(
            f"{options.bundle}: note: format 1 doesn't say for which key it is, so appliances "
            "refuse it unless they are told otherwise; write it again"
        )
    say(
        f"{options.bundle}: {identity.model_id} version {identity.model_version}, "
        f"{len(manifest.partitions)} partitions: signature and every object hold"
    )
    say(_release_lines(manifest))
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
        f"{_release_lines(manifest)}\n"
        f"optimised for onnxruntime {manifest.onnxruntime} ({manifest.optimization}), "
        f"planned for {format_size(manifest.budget_bytes)}, "
        f"encrypted in chunks of {format_size(manifest.chunk_bytes)}",
        soft_wrap=True,
    )


def _release_lines(manifest: Manifest) -> str:
    release = manifest.release
    lines = [
        f"bundle id {manifest.identity.bundle_id.hex()}, format {manifest.identity.format_version}"
    ]
    if release is not None:
        expiry = "never" if release.expires_at is None else write_time(release.expires_at)
        lines += [
            f"key id {release.key_id}",
            f"released {write_time(release.released_at)}, expires {expiry}",
        ]
    return "\n".join(lines)
