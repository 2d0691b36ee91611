"""Files in folders that others fill, opened so that nothing but a regular file is ever read.

A pipe blocks whoever opens it, a link leads elsewhere, a device has no end. So
files are opened without waiting and without following a link, and looked at
before they are read. `WrongFileError` says that the folder doesn't hold what it
should; any other `OSError` that it couldn't be found out.

A bundle's files are opened once and read at any place: opening, looking at the
size and closing take longer than reading a small partition, and each is a
moment in which another thread takes the interpreter. A bundle whose folder is
replaced while a model of it serves is read on as it was.
"""

from __future__ import annotations

import errno
import os
import stat
import weakref
from pathlib import Path
from typing import Final

MAX_OPEN_FILES: Final = 32
"""Files of one bundle that stay open: 8 loaded models and 512 connections have 768 together, of the
1024 that RLIMIT_NOFILE allows in Occlum. Those beyond are opened for each load."""

_FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
_NOT_THERE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO})
"""What opening says of nothing, of a file in the place of a folder, of a link, and of a socket."""


class WrongFileError(Exception):
    """There is no regular file of that name, or it has another size; the message says which."""


def open_file(path: Path, size_bytes: int | None = None, *, may_be_link: bool = False) -> int:
    """Opens a regular file for reading; never waits for anybody.

    Args:
        path: the file.
        size_bytes: what it must have; None for any.
        may_be_link: whether its last part may be a link to it, as tools that renew files make them.

    Returns:
        Its descriptor.

    Raises:
        WrongFileError: there is none, or it has another size.
        OSError: it can't be opened.
    """
    try:
        file = os.open(path, _FLAGS if may_be_link else _FLAGS | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno in _NOT_THERE:
            raise WrongFileError(_reason(error)) from error
        raise
    try:
        _check(os.fstat(file), size_bytes)
    except BaseException:
        os.close(file)
        raise
    return file


def read_file(path: Path, most_bytes: int, *, may_be_link: bool = False) -> bytes:
    """Reads a whole small file; `may_be_link` as for `open_file`.

    Raises:
        WrongFileError: there is none, or it is larger than `most_bytes`.
        OSError: it can't be read.
    """
    file = open_file(path, may_be_link=may_be_link)
    try:
        size_bytes = os.fstat(file).st_size
        if size_bytes > most_bytes:
            raise WrongFileError(f"{size_bytes} bytes, at most {most_bytes} are allowed")
        content = read_at(file, size_bytes, 0, to_end=True)
    finally:
        os.close(file)
    if content is None:
        raise WrongFileError("it changed while it was read")
    return content


def read_at(file: int, size_bytes: int, offset: int, *, to_end: bool) -> bytes | None:
    """Reads a part of a file.

    `preadv` would save the new bytes, but not every system has it; up to a few MiB making them
    takes no longer.

    Args:
        file: its descriptor.
        size_bytes: how many bytes.
        offset: where they begin.
        to_end: whether the file has to end with them.

    Returns:
        None when the file ends before, or goes on though it has to end.

    Raises:
        OSError: it can't be read.
    """
    content = os.pread(file, size_bytes + to_end, offset)
    while len(content) < size_bytes:
        rest = os.pread(file, size_bytes + to_end - len(content), offset + len(content))
        if not rest:
            return None
        content += rest
    return content if len(content) == size_bytes else None


class BundleFiles:
    """The open files of one folder; they are closed with it.

    Args:
        folder: where they lie.
        most_open: how many stay open.
    """

    def __init__(self, folder: Path, most_open: int = MAX_OPEN_FILES) -> None:
        self.folder = folder
        self._most_open = most_open
        self._kept: dict[str, int] = {}
        weakref.finalize(self, _close_all, self._kept)

    def take(self, name: str, size_bytes: int) -> int:
        """Gives a file's descriptor; `give_back` has to follow.

        Raises:
            WrongFileError, OSError: as `open_file` does.
        """
        kept = self._kept.pop(name, None)
        return open_file(self.folder / name, size_bytes) if kept is None else kept

    def give_back(self, name: str, file: int, *, keep: bool) -> None:
        """Takes a descriptor back.

        Args:
            name: what `take` was asked for.
            file: what it gave.
            keep: whether it is good for the next load; it is closed otherwise, or when there is
                no place for it.
        """
        if keep and name not in self._kept and len(self._kept) < self._most_open:
            self._kept[name] = file
        else:
            os.close(file)


def _check(found: os.stat_result, size_bytes: int | None) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise WrongFileError("isn't a regular file")
    if size_bytes is not None and found.st_size != size_bytes:
        raise WrongFileError(f"{found.st_size} bytes, expected {size_bytes}")


def _reason(error: OSError) -> str:
    """A link is told by its name: the system speaks of too many levels."""
    return "is a link that isn't followed" if error.errno == errno.ELOOP else str(error.strerror)


def _close_all(files: dict[str, int]) -> None:
    while files:
        os.close(files.popitem()[1])
