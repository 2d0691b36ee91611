"""Describes repeated measurements: median, quartiles, percentiles."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil


@dataclass(frozen=True, slots=True)
class Spread:
    """The middle half of some measurements.

    Attributes:
        count: how many there are.
        first, median, third: the quartiles, in the unit of the measurements.
    """

    count: int
    first: float
    median: float
    third: float


def spread(samples: Sequence[float]) -> Spread:
    """Describes samples; one alone is its own quartiles.

    Raises:
        ValueError: when there is none.
    """
    if not samples:
        raise ValueError("expected one sample at least, got none")
    if len(samples) == 1:
        return Spread(1, samples[0], samples[0], samples[0])
    first, median, third = statistics.quantiles(samples, n=4, method="inclusive")
    return Spread(len(samples), first, median, third)


def percentile(samples: Sequence[float], share: float) -> float:
    """Gives the smallest sample that so large a share of all samples doesn't exceed.

    The nearest-rank definition: always a value that was measured, and with share 1 the largest.

    Args:
        samples: one at least.
        share: above 0, at most 1.
    """
    return sorted(samples)[ceil(share * len(samples)) - 1]
