"""A bundle's files, opened once and read at any place.

Opening, looking at the size and closing take longer than reading a small
partition, and each is a moment in which another thread takes the interpreter.
A bundle whose folder is replaced while a model of it serves is read on as it
was.
"""

from __future__ import annotations

import os
import weakref
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

MAX_OPEN_FILES: Final = 32
"""Files of one bundle that stay open: 8 loaded models and 512 connections have 768 together, of the
1024 that RLIMIT_NOFILE allows in Occlum. Those beyond are opened for each load."""


class BundleFiles:
    """The open files of one folder; they are closed with it.

    Args:
        folder: where they lie.
        most_open: how many stay open.
    """

    def __init__(self, folder: Path, most_open: int = MAX_OPEN_FILES) -> None:
        self._folder = folder
        self._most_open = most_open
        self._kept: dict[str, int] = {}
        weakref.finalize(self, _close_all, self._kept)

    def take(self, name: str, size_bytes: int) -> int | None:
        """Gives a file's descriptor; `give_back` has to follow.

        Returns:
            None when the file has another size.

        Raises:
            OSError: it can't be opened.
        """
        kept = self._kept.pop(name, None)
        if kept is not None:
            return kept
        file = os.open(self._folder / name, os.O_RDONLY | os.O_CLOEXEC)
        if os.fstat(file).st_size == size_bytes:
            return file
        os.close(file)
        return None

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


def read_into(file: int, buffer: NDArray[np.uint8], offset: int, *, to_end: bool) -> bool:
    """Fills a buffer from a place in a file.

    Args:
        file: its descriptor.
        buffer: contiguous bytes, at least one.
        offset: where they begin.
        to_end: whether the file has to end with them.

    Returns:
        False when the file ends before, or goes on though it has to end.

    Raises:
        OSError: it can't be read.
    """
    beyond = bytearray(1 if to_end else 0)
    done = 0
    while done < buffer.nbytes:
        count = os.preadv(file, [buffer[done:].data, beyond], offset + done)
        if not count:
            return False
        done += count
    return done == buffer.nbytes


def _close_all(files: dict[str, int]) -> None:
    while files:
        os.close(files.popitem()[1])
