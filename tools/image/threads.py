"""Holds the app to max_num_of_threads.

In Occlum each thread takes a slot of the enclave, and the whole process dies
when there is none left. Where the kernel can set a bound, it is one above, so
that the supervisor still sees the thread too many and ends the app likewise.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

OUT_OF_SLOTS = (
    "Failed to enter the enclave to execute a LibOS thread: 0x1003 Out of TCS "
    "(stand-in: more threads than max_num_of_threads)"
)

HELPERS = 2
"""bubblewrap's own two processes, which count as well."""

CGROUPS = (Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup"))
"""Where the pids controller is in version 1, and in version 2."""

REMOVE_TRIES = 200
REMOVE_WAIT_S = 0.01
"""Together two seconds for killed processes to end; a group left behind is empty and harmless."""

NEWEST_SHARED_COUNT = (5, 14)
"""From this kernel on RLIMIT_NPROC counts a user namespace alone, before it all of a user's."""


def process_limit(max_threads: int) -> int | None:
    """RLIMIT_NPROC for the sandbox, or None where it wouldn't hold or would hold others up."""
    release = os.uname().release.split(".")
    kernel = tuple(int(part) for part in release[:2] if part.isdigit())
    if os.getuid() == 0 or kernel < NEWEST_SHARED_COUNT:
        return None
    return max_threads + HELPERS + 1


@contextmanager
def pids_cgroup(max_threads: int) -> Iterator[Path | None]:
    """A control group that bounds the sandbox's threads; None where this user may not make one."""
    group = next((made for base in CGROUPS if (made := _make_group(base, max_threads))), None)
    try:
        yield group
    finally:
        if group is not None:
            _remove(group)


def _make_group(base: Path, max_threads: int) -> Path | None:
    group = base / f"cloister-{os.getpid()}"
    try:
        group.mkdir()
    except OSError:
        return None
    try:
        (group / "pids.max").write_text(str(max_threads + HELPERS + 1))
    except OSError:
        _remove(group)
        return None
    return group


def _remove(group: Path) -> None:
    """Removes a group once the last process in it has ended; they were killed before."""
    for _ in range(REMOVE_TRIES):
        try:
            group.rmdir()
        except OSError:
            time.sleep(REMOVE_WAIT_S)
        else:
            return


def count_threads(monitor: int, skipped_levels: int) -> int:
    """Threads of a process's descendants.

    Args:
        monitor: process id to start from.
        skipped_levels: generations that aren't the app's, the monitor's own included.
    """
    level = [monitor]
    for _ in range(skipped_levels):
        level = [child for process in level for child in _children(process)]
    total = 0
    while level:
        total += sum(_thread_count(process) for process in level)
        level = [child for process in level for child in _children(process)]
    return total


def _thread_count(process: int) -> int:
    try:
        # A folder has two links beside those of the folders in it.
        return max(Path(f"/proc/{process}/task").stat().st_nlink - 2, 0)
    except OSError:
        return 0


def _children(process: int) -> list[int]:
    try:
        lists = [p.read_text() for p in Path(f"/proc/{process}/task").glob("*/children")]
    except OSError:
        return []
    return [int(number) for text in lists for number in text.split()]
