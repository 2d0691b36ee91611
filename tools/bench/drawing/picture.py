"""A figure with its words, and what the drawing modules share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from app.runtime import Runtime
from tools.bench.results import Row
from tools.bench.spread import spread
from tools.figures.bench_charts import Drawing, Middle

MS: Final = 1e3
"""Milliseconds in a second."""

MIB: Final = 1 << 20

_RUNTIMES: Final = {
    Runtime.OCCLUM_HARDWARE.value: "Occlum, SGX hardware",
    Runtime.OCCLUM_SIMULATION.value: "Occlum, simulation mode",
    Runtime.STAND_IN_SANDBOX.value: "sandbox, no SGX",
    Runtime.STAND_IN_PROCESS.value: "process, no SGX",
    Runtime.PROCESS.value: "process, no SGX",
}


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure and how to read it.

    Attributes:
        name: the end of its file's name.
        figure: what is drawn.
        alt: what it says, for those who don't see it.
        caption: what is shown and how to read it.
    """

    name: str
    figure: Drawing
    alt: str
    caption: str


def runtime_title(value: str) -> str:
    """Says in words what a server says that it runs in; what isn't known stays as it is."""
    return _RUNTIMES.get(value, value or "runtime not told")


def middle(samples: Sequence[float], factor: float = 1.0) -> Middle:
    """Gives median and quartiles in another unit."""
    found = spread(samples)
    return Middle(found.first * factor, found.median * factor, found.third * factor)


def values(rows: Iterable[Row], label: str) -> list[str]:
    """Gives a label's different values in the order of measuring."""
    return list(dict.fromkeys(row.labels[label] for row in rows if label in row.labels))


def threads_title(count: str) -> str:
    """Says how many threads."""
    return f"{count} thread" if count == "1" else f"{count} threads"
