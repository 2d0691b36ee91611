"""Opens files that somebody else named or put there: a supplier's folder isn't the owner's.

A name is followed one component after another and never through a link, so that it means the same
file to whoever checks it and to whoever reads it. What isn't a regular file is refused: opening a
pipe waits for ever, and reading a device never ends.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from tools.errors import ModelError


def inner_name(name: str) -> str:
    """Gives the one way to write the name of a file below a folder.

    Args:
        name: with "/" between folders; "./" means nothing.

    Raises:
        ModelError: when it is absolute, leads upwards, or isn't a name.
    """
    parts = [part for part in name.split("/") if part != "."]
    if not name.isprintable() or not all(parts) or not parts:
        raise ModelError(f"{name!r} isn't the name of a file inside of the folder")
    if ".." in parts:
        raise ModelError(f"{name!r} leads out of the folder; put the file into it")
    return "/".join(parts)


@contextmanager
def open_supplied(folder: Path, name: str) -> Iterator[BufferedReader]:
    """Opens a file below a folder for reading.

    Args:
        folder: trusted as it is; the caller's user named it.
        name: as the supplier wrote it.

    Raises:
        ModelError: when the name leads out of the folder or through a link, or what is there
            isn't a regular file.
        OSError: when it can't be opened.
    """
    parts = inner_name(name).split("/")
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts[:-1]:
            handle = _step(handle, part, os.O_DIRECTORY, folder, name)
        handle = _step(handle, parts[-1], os.O_NONBLOCK, folder, name)
        _check_regular(handle, folder / name)
    except BaseException:
        os.close(handle)
        raise
    with os.fdopen(handle, "rb") as file:
        yield file


@contextmanager
def open_regular(path: Path) -> Iterator[BufferedReader]:
    """Opens a file that the user named, through links too, for reading.

    Raises:
        ModelError: when it isn't a regular file.
        OSError: when it can't be opened.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        _check_regular(file.fileno(), path)
        yield file


def followed(path: Path) -> Path:
    """Gives where a path leads that the user named: what lies beside the link isn't meant."""
    return path.resolve() if path.is_symlink() else path


def read_supplied(folder: Path, name: str) -> bytes:
    """Reads such a file whole; errors as `open_supplied`."""
    with open_supplied(folder, name) as file:
        return file.read()


def supplied_digest(folder: Path, name: str) -> str:
    """Gives such a file's SHA-256 in hex; errors as `open_supplied`."""
    with open_supplied(folder, name) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def copy_supplied(folder: Path, name: str, target: Path) -> None:
    """Copies such a file to a new place that is ours; errors as `open_supplied`."""
    with open_supplied(folder, name) as source, target.open("xb") as copy:
        shutil.copyfileobj(source, copy, 1 << 20)


def irregular(folder: Path) -> list[str]:
    """Names what lies in a folder, at any depth, and is neither a file nor a folder."""
    names = []
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            names.append(path.relative_to(folder).as_posix())
    return names


def _check_regular(handle: int, path: Path) -> None:
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        raise ModelError(f"{path}: isn't a regular file")


def _step(parent: int, part: str, flags: int, folder: Path, name: str) -> int:
    """Opens the next component and closes the one before."""
    try:
        handle = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | flags, dir_fd=parent)
    except OSError as error:
        if error.errno == errno.ELOOP or _is_link(parent, part):
            raise ModelError(
                f"{folder / name}: is a link or lies behind one; put the file itself there"
            ) from error
        raise OSError(error.errno, error.strerror, str(folder / name)) from error
    os.close(parent)
    return handle


def _is_link(parent: int, part: str) -> bool:
    try:
        return stat.S_ISLNK(os.stat(part, dir_fd=parent, follow_symlinks=False).st_mode)
    except OSError:
        return False
