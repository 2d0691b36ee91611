"""Watches a process and its descendants: processor time, resident memory, energy."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tools.bench.power import PowerMeter

INTERVAL_S: Final = 0.05
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at a tree.

    Attributes:
        at_s: monotonic clock.
        cpu_s: processor time of all its processes since each began.
        resident_bytes: memory in RAM of all; what several share counts for each.
        joules: of the machine; None where power can't be read.
    """

    at_s: float
    cpu_s: float
    resident_bytes: int
    joules: float | None


@dataclass(frozen=True, slots=True)
class Window:
    """What a tree used in a stretch of time.

    Attributes:
        cores: processor time per time: 1.0 is one core all the while.
        resident_bytes: the most.
        watts: None where power can't be read.
    """

    cores: float
    resident_bytes: int
    watts: float | None


def descendants(process_id: int) -> list[int]:
    """Gives a process and all that came from it."""
    found = [process_id]
    for each in found:
        with suppress(OSError):
            for task in Path(f"/proc/{each}/task").iterdir():
                found.extend(int(word) for word in (task / "children").read_text().split())
    return found


def look(process_id: int, meter: PowerMeter | None) -> Sample:
    """Looks at a tree now; processes that end meanwhile don't count."""
    ticks = pages = 0
    for each in descendants(process_id):
        with suppress(OSError, IndexError):
            # The name in brackets may hold anything; the fields after it are numbers (proc(5)).
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
            pages += int(fields[21])
    joules = meter.joules() if meter else None
    return Sample(time.perf_counter(), ticks / _TICKS_PER_S, pages * _PAGE_BYTES, joules)


@contextmanager
def watched(
    process_id: int, meter: PowerMeter | None, interval_s: float = INTERVAL_S
) -> Iterator[list[Sample]]:
    """Looks at a tree all the while the block runs; the list grows."""
    samples = [look(process_id, meter)]
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(interval_s):
            samples.append(look(process_id, meter))

    watcher = threading.Thread(target=watch, name="watcher")
    watcher.start()
    try:
        yield samples
    finally:
        ended.set()
        watcher.join()
        samples.append(look(process_id, meter))


def windows(samples: Sequence[Sample], length_s: float) -> list[Window]:
    """Cuts a course into consecutive windows; a rest that isn't full isn't one."""
    found = []
    inside = [samples[0]]
    for sample in samples[1:]:
        inside.append(sample)
        if sample.at_s - inside[0].at_s >= length_s:
            found.append(_window(inside))
            inside = [sample]
    return found


def _window(inside: Sequence[Sample]) -> Window:
    first, last = inside[0], inside[-1]
    elapsed_s = last.at_s - first.at_s
    watts = None
    if first.joules is not None and last.joules is not None:
        watts = (last.joules - first.joules) / elapsed_s
    return Window(
        cores=(last.cpu_s - first.cpu_s) / elapsed_s,
        resident_bytes=max(sample.resident_bytes for sample in inside),
        watts=watts,
    )
