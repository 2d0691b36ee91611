"""Checks a materialised root file system for what Occlum would refuse and nobody should ship."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

from tools.image.autodep import GLIBC_FOLDER
from tools.image.elf import ElfFacts, read_elf
from tools.image.linking import link_problems
from tools.image.rootfs_paths import resolve_inside, walk_files

MAX_SHEBANG_BYTES = 64
"""Occlum reads this much of a script, newline included, to find its interpreter."""

OCCLUM_GLIBC = (2, 35)
"""glibc of Occlum's ubuntu22.04 image: nothing may need a newer one."""

MAX_KEY_FILE_BYTES = 16 * 1024
"""Larger files aren't searched for private keys: a PEM key has a few KiB."""

_PRIVATE_KEY = re.compile(rb"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----")
_IMAGE_KEY = re.compile(rb"[0-9a-f]{2}(-[0-9a-f]{2}){15}\s*")


def rootfs_problems(
    root: Path,
    entry_points: Iterable[str],
    kernel_heap_bytes: int,
    known_keys: Sequence[bytes] = (),
) -> list[str]:
    """Every reason not to build an image of this root file system.

    Args:
        root: folder that holds it.
        entry_points: folders or files that may be started.
        kernel_heap_bytes: the LibOS heap, which must hold a copy of an executable.
        known_keys: secret keys that must not be in it, as raw bytes.
    """
    problems = entry_point_problems(root, entry_points)
    files: dict[Path, ElfFacts] = {}
    for path in walk_files(root):
        problems += _file_problems(root, path, known_keys)
        if path.is_file() and not path.is_symlink():
            facts = read_elf(path)
            if facts is not None:
                files[path] = facts
    for path, facts in files.items():
        problems += _elf_problems(root, path, facts, kernel_heap_bytes)
    return problems + link_problems(root, files)


def entry_point_problems(root: Path, entry_points: Iterable[str]) -> list[str]:
    """Problems of everything that may be started: missing, or not to be started by Occlum."""
    problems: list[str] = []
    for entry in entry_points:
        place = resolve_inside(root, entry)
        if place is None:
            problems.append(f"entry point {entry} isn't in the image")
            continue
        programs = sorted(place.iterdir()) if place.is_dir() else [place]
        if not programs:
            problems.append(f"entry point {entry} is an empty folder: nothing can be started")
        for program in programs:
            problems += program_problems(root, f"/{program.relative_to(root)}")
    return problems


def program_problems(root: Path, absolute: str) -> list[str]:
    """Problems of starting one program in Occlum: its file, its first line, its interpreter."""
    path = resolve_inside(root, absolute)
    if path is None or not path.is_file():
        return [f"{absolute} isn't a file of the image"]
    if not path.stat().st_mode & 0o111:
        return [f"{absolute} isn't executable; give it mode 0755"]
    facts = read_elf(path)
    if facts is not None:
        return _pie_problems(absolute, facts)
    return _script_problems(root, absolute, path)


def interpreter_of(path: Path) -> str | None:
    """The interpreter of a script as Occlum reads it: all of the first line after `#!`."""
    with path.open("rb") as file:
        head = file.read(MAX_SHEBANG_BYTES)
    if not head.startswith(b"#!") or b"\n" not in head:
        return None
    return head[2 : head.index(b"\n")].decode("utf-8", "surrogateescape").strip(" ")


def _script_problems(root: Path, absolute: str, path: Path) -> list[str]:
    with path.open("rb") as file:
        is_script = file.read(2) == b"#!"
    if not is_script:
        return [f"{absolute} is neither an ELF executable nor a script that starts with '#!'"]
    interpreter = interpreter_of(path)
    if interpreter is None:
        return [f"{absolute}: the first line and its newline must fit in 64 bytes"]
    if interpreter.endswith("\r"):
        return [f"{absolute}: the first line ends in CR LF; Occlum looks for a file with CR"]
    if " " in interpreter or "\t" in interpreter:
        return [f"{absolute}: Occlum takes no argument in the first line: {interpreter!r}"]
    return [f"{absolute}: {problem}" for problem in _interpreter_problems(root, interpreter)]


def _interpreter_problems(root: Path, interpreter: str) -> list[str]:
    target = resolve_inside(root, interpreter)
    if not interpreter.startswith("/") or target is None or not target.is_file():
        return [f"interpreter {interpreter} isn't in the image"]
    if not target.stat().st_mode & 0o111:
        return [f"interpreter {interpreter} isn't executable; give it mode 0755"]
    facts = read_elf(target)
    if facts is None:
        return [f"interpreter {interpreter} isn't an ELF executable"]
    return _pie_problems(interpreter, facts)


def _pie_problems(absolute: str, facts: ElfFacts) -> list[str]:
    if facts.kind == "ET_DYN":
        return []
    return [f"{absolute} isn't position independent ({facts.kind}): Occlum starts ET_DYN only"]


def _file_problems(root: Path, path: Path, known_keys: Sequence[bytes]) -> list[str]:
    name = f"/{path.relative_to(root)}"
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return [f"{name!r}: file names must be UTF-8"]
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        return []
    if not stat.S_ISREG(status.st_mode):
        return [f"{name} is neither a file nor a folder nor a link"]
    problems = []
    if status.st_mode & (stat.S_ISUID | stat.S_ISGID):
        problems.append(f"{name} is set-user-id or set-group-id")
    if reason := _key_material(path, status.st_size, known_keys):
        problems.append(f"{name} {reason}; keys don't belong in an image")
    return problems


def _key_material(path: Path, size_bytes: int, known_keys: Sequence[bytes]) -> str | None:
    if path.suffix == ".key":
        return "is named like a key"
    if size_bytes > MAX_KEY_FILE_BYTES:
        return None
    content = path.read_bytes()
    if _PRIVATE_KEY.search(content):
        return "holds a private key"
    if _IMAGE_KEY.fullmatch(content):
        return "looks like an Occlum image key"
    if any(key and key in content for key in known_keys):
        return "holds one of the model keys"
    return None


def _elf_problems(root: Path, path: Path, facts: ElfFacts, kernel_heap_bytes: int) -> list[str]:
    name = f"/{path.relative_to(root)}"
    problems: list[str] = []
    if facts.interpreter is None:
        return problems
    if resolve_inside(root, facts.interpreter) is None:
        problems.append(f"{name} needs the loader {facts.interpreter}, which isn't in the image")
    # A library can name a loader too; only what has the executable bit is meant to be started.
    if path.stat().st_mode & 0o111 and ".so" not in path.name:
        problems += _pie_problems(name, facts)
    if path.stat().st_size > kernel_heap_bytes:
        problems.append(f"{name} is larger than kernel_space_heap_size: Occlum can't start it")
    return problems


def glibc_problems(root: Path, ceiling: tuple[int, ...] = OCCLUM_GLIBC) -> list[str]:
    """Files that need a newer glibc than Occlum's, which it replaces the host's with."""
    written = ".".join(str(part) for part in ceiling)
    problems: list[str] = []
    replaced = root / GLIBC_FOLDER.lstrip("/")
    for path in walk_files(root):
        if path.is_symlink() or not path.is_file() or path.is_relative_to(replaced):
            continue
        facts = read_elf(path)
        if facts is not None and facts.glibc > ceiling:
            needed = ".".join(str(part) for part in facts.glibc)
            problems.append(
                f"/{path.relative_to(root)} needs glibc {needed}; Occlum's is {written}"
            )
    return problems
