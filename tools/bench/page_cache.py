"""Makes files cold: the next read comes from the disk.

`posix_fadvise(POSIX_FADV_DONTNEED)` asks the kernel to forget a file's clean pages. It changes
nothing for pages that somebody has mapped or that aren't written yet, and nothing in the disk's
own cache or a virtual machine's host: "cold" here means that this kernel has to ask its disk.
`cached_share` says what the kernel really forgot.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_LOOKS: Final = 64
"""Places of a file that are looked at."""


def make_cold(paths: Iterable[Path]) -> None:
    """Asks the kernel to forget the content of files."""
    for path in paths:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fdatasync(handle)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(handle)


def make_warm(paths: Iterable[Path]) -> None:
    """Reads files once, so that the page cache holds them."""
    buffer = bytearray(1 << 20)
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def cached_share(paths: Iterable[Path]) -> float:
    """Gives the share of places in files that can be read without the disk, from 0 to 1.

    Looking brings the place's page in, so `make_cold` again before measuring.
    """
    found = [_is_cached(path, place) for path in paths for place in _places(path)]
    return sum(found) / len(found) if found else 1.0


def _places(path: Path) -> list[int]:
    size = path.stat().st_size
    return sorted({size * number // _LOOKS for number in range(_LOOKS)}) if size else []


def _is_cached(path: Path, place: int) -> bool:
    """Reads one byte on the condition that it doesn't have to wait for a disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        # Without it the kernel would read the places after this one too.
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_RANDOM)
        return os.preadv(handle, [bytearray(1)], place, os.RWF_NOWAIT) == 1
    except BlockingIOError:
        return False
    finally:
        os.close(handle)
