"""Two result files side by side: ratios, and whether they exceed the noise.

The test: samples of both runs are drawn anew with replacement, many times, and the ratio of their
medians taken each time (a percentile bootstrap; B. Efron, R. Tibshirani, "An Introduction to the
Bootstrap", 1993, chapter 13). The middle of these ratios is the interval. It is made wider for the
number of rows (Bonferroni), so that a whole table of equal things shows a difference in at most
5 % of comparisons. That covers the noise inside each run. Two runs also differ because the
machine isn't the same an hour later: a difference counts only where the whole interval lies
beyond a tolerance around 1, and times only from `GRAIN_S` on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from app.errors import InputError
from tools.bench.results import Result, Row

TOLERANCE: Final = 0.1
"""What two runs of one commit may differ by: what such runs differed by on the machines that this
was written on, where other things ran too."""

ERROR_RATE: Final = 0.05
"""Of a whole table without any difference."""

FEWEST: Final = 5
"""Samples that a row needs on both sides; with fewer a median says nothing about noise."""

GRAIN_S: Final = 50e-6
"""Smallest difference of times that counts: below it lie the scheduler's own delays."""

_DRAWS: Final = 4000
_MOST_SAMPLES: Final = 400
_SEED: Final = 1
_COURSES: Final = ("resident over time", "growth over time")


@dataclass(frozen=True, slots=True)
class Change:
    """One row in both files.

    Attributes:
        row: the first file's.
        first, second: medians.
        ratio: second by first.
        interval: of the ratio; None when one side has too few samples to tell.
        is_difference: whether it exceeds noise and tolerance.
    """

    row: Row
    first: float
    second: float
    ratio: float
    interval: tuple[float, float] | None
    is_difference: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """What two files have in common.

    Attributes:
        changes: the rows that are in both, in the first file's order.
        only_first, only_second: rows with numbers that are in one alone.
    """

    changes: tuple[Change, ...]
    only_first: tuple[Row, ...]
    only_second: tuple[Row, ...]

    @property
    def differences(self) -> tuple[Change, ...]:
        """The rows that differ beyond noise."""
        return tuple(each for each in self.changes if each.is_difference)


def compare(first: Result, second: Result, tolerance: float = TOLERANCE) -> Comparison:
    """Compares two results of the same subcommand, row by row.

    Raises:
        InputError: when they are of different subcommands or have no row in common.
    """
    if first.subcommand != second.subcommand:
        raise InputError(
            f"can't compare {first.subcommand!r} with {second.subcommand!r}; "
            "name two files of the same subcommand"
        )
    ours, theirs = _by_key(first), _by_key(second)
    common = [key for key in ours if key in theirs]
    if not common:
        raise InputError("the files have no row in common: other models, or other settings")
    level = ERROR_RATE / len(common)
    return Comparison(
        tuple(_change(ours[key], theirs[key], level, tolerance) for key in common),
        tuple(row for key, row in ours.items() if key not in theirs),
        tuple(row for key, row in theirs.items() if key not in ours),
    )


def _by_key(result: Result) -> dict[tuple[object, ...], Row]:
    return {row.key: row for row in result.rows if row.samples and row.metric not in _COURSES}


def _change(ours: Row, theirs: Row, level: float, tolerance: float) -> Change:
    first, second = ours.median, theirs.median
    ratio = second / first if first else (1.0 if not second else float("inf"))
    interval = None
    if first and min(len(ours.samples), len(theirs.samples)) >= FEWEST:
        interval = ratio_interval(ours.samples, theirs.samples, level)
    differs = interval is not None and (
        interval[0] > 1 + tolerance or interval[1] < 1 / (1 + tolerance)
    )
    is_grain = ours.unit == "s" and abs(second - first) < GRAIN_S
    return Change(ours, first, second, ratio, interval, differs and not is_grain)


def ratio_interval(
    first: Sequence[float], second: Sequence[float], level: float
) -> tuple[float, float]:
    """Gives a bootstrap interval of the ratio of two medians, second by first.

    Args:
        first: samples.
        second: samples.
        level: probability that the ratio lies outside when it is drawn anew.
    """
    rng = np.random.default_rng(_SEED)
    below, above = (_medians(rng, np.asarray(samples)) for samples in (first, second))
    ratios = above / np.maximum(below, np.finfo(float).tiny)
    low, high = np.quantile(ratios, (level / 2, 1 - level / 2))
    return float(low), float(high)


def _medians(rng: np.random.Generator, samples: np.ndarray) -> np.ndarray:
    """Medians of samples drawn anew; of many every few are taken, which widens the interval."""
    samples = samples[:: 1 + len(samples) // _MOST_SAMPLES]
    drawn = rng.integers(0, len(samples), (_DRAWS, len(samples)))
    return np.asarray(np.median(samples[drawn], axis=1))
