"""What a command gives up before it looks at a model: files, network, memory, time.

Nothing is given up where nobody supervises: a program that calls a command's `main` stays as it
is.
"""

from __future__ import annotations

import os
import resource
import secrets
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tools.confinement import landlock
from tools.confinement.landlock import READ, RUN, WRITE, Access
from tools.confinement.privileges import drop_privileges
from tools.confinement.sockets import can_forbid, forbid_network
from tools.confinement.supervisor import Channel, Work, is_supervised
from tools.files import begin_file, begin_folder

ROOT: Final = Path(__file__).resolve().parents[2]

TIME_LIMIT_S: Final = 14_400

_KEYS: Final = (ROOT / "build" / "owner", ROOT / "build" / "keys")
_KEY_SUFFIXES: Final = (".key", ".pem")

_SYSTEM: Final = ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/opt", "/proc", "/sys")
_SETTINGS: Final = tuple(
    f"/etc/{name}"
    for name in (
        "alternatives",
        "group",
        "host.conf",
        "hosts",
        "ld.so.cache",
        "localtime",
        "mime.types",
        "nsswitch.conf",
        "passwd",
        "resolv.conf",
        "ssl",
        "timezone",
    )
)
_DEVICES: Final = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")

_LARGEST_FILE: Final = 1 << 38
"""Bytes that one file may get: more than any model here, less than what fills a disk unseen."""

_RENAME: Final = Access.READ_DIR | Access.MAKE_DIR | Access.REMOVE_DIR | Access.REFER
_RENAME_FILE: Final = Access.READ_DIR | Access.MAKE_REG | Access.REMOVE_FILE


@dataclass(frozen=True, slots=True)
class Confinement:
    """What a command needs for its work; all else is given up.

    Attributes:
        reads: files and folders.
        models: the same; with a model's file come those that lie beside it, but no keys.
        folders: that are written whole; one that is read too is changed in its place.
        files: that are written whole.
        network: whether it connects to somebody.
        seconds: that it may take.
        memory_bytes: that it may allocate; None: three quarters of the machine's. A file that is
            mapped doesn't count.
    """

    models: Sequence[Path]
    reads: Sequence[Path] = ()
    folders: Sequence[Path] = ()
    files: Sequence[Path] = ()
    network: bool = False
    seconds: float = TIME_LIMIT_S
    memory_bytes: int | None = None


def confine(needs: Confinement) -> None:
    """Gives up what isn't needed, for good, and tells the supervisor.

    Raises:
        OSError: when an output can't be begun, or the kernel refuses.
    """
    if not is_supervised():
        return
    made = [str(path) for path in _missing([*needs.folders, *needs.files])]
    begun = [begin_folder(path) for path in needs.folders if path not in needs.models]
    begun += [begin_file(path) for path in needs.files]
    # Short, as sockets lie in it, whose paths have 107 bytes at most.
    scratch = Path(tempfile.gettempdir()) / f"c-{secrets.token_hex(4)}"
    Channel.announce(Work(needs.seconds, str(scratch), [str(path) for path in begun], made))
    scratch.mkdir(mode=0o700)
    tempfile.tempdir = os.environ["TMPDIR"] = str(scratch)
    _limit(needs)
    drop_privileges()
    if needs.network or not can_forbid():
        _note(not needs.network, "the network isn't out of reach of the model's process")
    else:
        forbid_network()
    if not landlock.version():
        _note(True, "this kernel has no Landlock, so files aren't out of reach of the model's "
              "process; memory and time are limited")  # fmt: skip
        return
    rules = dict(_rules(needs))
    rules |= dict.fromkeys((scratch, *begun, *needs.folders), WRITE)
    landlock.allow_only(rules)


def _missing(targets: Sequence[Path]) -> Iterator[Path]:
    """Gives the folders that have to be made for outputs, the innermost first."""
    for target in targets:
        yield from (each for each in target.absolute().parents if not each.exists())


def _limit(needs: Confinement) -> None:
    pages, page_bytes = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    memory = needs.memory_bytes or pages * page_bytes // 4 * 3
    for kind, most in (
        (resource.RLIMIT_DATA, memory),
        (resource.RLIMIT_FSIZE, _LARGEST_FILE),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        lowest = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (lowest, lowest))


def _rules(needs: Confinement) -> Iterator[tuple[Path, Access]]:
    for system in (*_SYSTEM, sys.prefix, sys.base_prefix):
        yield Path(system), RUN
    for setting in _SETTINGS:
        yield Path(setting), READ
    for source in ("app", "tools"):
        yield ROOT / source, READ
    for device in _DEVICES:
        yield Path(device), READ | Access.WRITE_FILE
    rights = {ROOT: Access.READ_DIR}
    for path in needs.models:
        for place in {path, path.resolve()}:
            rights |= dict(_readable(place if place.is_dir() else place.absolute().parent))
            rights[place] = READ
    rights |= dict.fromkeys(needs.reads, READ)
    for paths, renaming in ((needs.folders, _RENAME), (needs.files, _RENAME_FILE)):
        for parent in {path.absolute().parent for path in paths}:
            rights[parent] = rights.get(parent, Access(0)) | renaming
    yield from rights.items()


def _readable(folder: Path) -> Iterator[tuple[Path, Access]]:
    """Gives what may be read of a folder: everything but keys and what is hidden."""
    if not folder.is_dir():
        return
    yield folder, Access.READ_DIR
    for path in folder.iterdir():
        if path.name.startswith(".") or path.suffix in _KEY_SUFFIXES or path.is_symlink():
            continue
        real = path.resolve()
        if not any(keys.is_relative_to(real) for keys in _KEYS):
            yield path, READ
        elif real not in _KEYS:
            yield from _readable(real)


def _note(wanted: bool, text: str) -> None:
    if wanted:
        print(f"note: {text}", file=sys.stderr)
