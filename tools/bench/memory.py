"""Measures a process's memory, and holds it under a limit of the kernel's."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

_CGROUPS: Final = (
    # version 1: one hierarchy for memory; version 2: one for everything
    (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
    (Path("/sys/fs/cgroup"), "memory.max"),
)


def resident_bytes() -> int:
    """Gives the memory of this process that is in RAM and its own: file mappings don't count."""
    fields = _status()
    return 1024 * (fields["RssAnon"] + fields.get("RssShmem", 0))


def data_bytes() -> int:
    """Gives what RLIMIT_DATA counts: private writable memory, touched or not."""
    return 1024 * _status()["VmData"]


def reset_peak() -> None:
    """Makes the kernel forget the peak that it has seen so far."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_bytes() -> int:
    """Gives the largest resident size since `reset_peak`, file mappings included."""
    return 1024 * _status()["VmHWM"]


def _status() -> dict[str, int]:
    lines = Path("/proc/self/status").read_text().splitlines()
    pairs = (line.split(":", 1) for line in lines if line.endswith("kB"))
    return {name: int(value.split()[0]) for name, value in pairs}


@contextmanager
def limited(more_bytes: int) -> Iterator[str]:
    """Lets this process take only so much more memory than it has now.

    Yields:
        What holds it: "cgroup" counts resident memory and page cache, which the kernel takes
        back first; "RLIMIT_DATA" counts private writable memory, touched or not.
    """
    group = _new_cgroup(more_bytes)
    if group is not None:
        try:
            yield "cgroup"
        finally:
            _leave(group)
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (data_bytes() + more_bytes, hard))
    try:
        yield "RLIMIT_DATA"
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _new_cgroup(more_bytes: int) -> Path | None:
    """Moves this process into a group of its own; memory it has already stays charged outside."""
    for root, limit in _CGROUPS:
        group = root / f"cloister-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / limit).write_text(str(more_bytes))
            (group / "cgroup.procs").write_text(str(os.getpid()))
        except OSError:
            group.rmdir()
            continue
        return group
    return None


def _leave(group: Path) -> None:
    with suppress(OSError):
        (group.parent / "cgroup.procs").write_text(str(os.getpid()))
        group.rmdir()
