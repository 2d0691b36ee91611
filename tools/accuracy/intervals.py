"""What a number of right answers says about all pictures like these: 95 % intervals.

Sources:
    A single share: E. B. Wilson, "Probable Inference, the Law of Succession, and Statistical
    Inference", JASA 22 (1927), the score interval.
    The difference of two shares on the same pictures: A. Agresti and Y. Min, "Simple improved
    confidence intervals for comparing matched proportions", Statistics in Medicine 24 (2005):
    half a picture added to each of the four cells, then the normal interval.
    Whether two classifiers differ at all: Q. McNemar, "Note on the sampling error of the
    difference between correlated proportions", Psychometrika 12 (1947), in its exact form: the
    pictures on which one alone is right are tosses of a fair coin if there is no difference.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Final

Z: Final = 1.959963984540054
"""Standard normal quantile of 0.975: 95 % lie within ± Z."""

_PSEUDO_COUNT: Final = 0.5
"""Added to each of the four cells by Agresti and Min."""


@dataclass(frozen=True, slots=True)
class Share:
    """A share of pictures, with its 95 % Wilson interval.

    Attributes:
        count: pictures of which something is true.
        total: all pictures; at least 1.
        value: count / total.
        low, high: of the interval.
    """

    count: int
    total: int
    value: float
    low: float
    high: float


def share(count: int, total: int) -> Share | None:
    """Gives a share with its interval; None of no pictures.

    Args:
        count: 0 to total.
        total: how many there are.
    """
    if total == 0:
        return None
    value, scale = count / total, 1 + Z * Z / total
    centre = (value + Z * Z / (2 * total)) / scale
    half = Z / scale * sqrt(value * (1 - value) / total + Z * Z / (4 * total * total))
    # Exactly 0 and 1 at the ends, where rounding would give 1e-17.
    low = 0.0 if count == 0 else centre - half
    high = 1.0 if count == total else centre + half
    return Share(count, total, value, low, high)


@dataclass(frozen=True, slots=True)
class Drop:
    """How much smaller one share is than another, of the same pictures.

    Attributes:
        value: the first share less the second; negative when the second is better.
        low, high: 95 % interval of it (Agresti and Min).
        first_only, second_only: pictures on which only that one is right.
        p_value: of McNemar's exact test: how often chance alone gives so uneven a split.
    """

    value: float
    low: float
    high: float
    first_only: int
    second_only: int
    p_value: float


def drop(first_only: int, second_only: int, total: int) -> Drop | None:
    """Gives the drop from one classifier to another; None of no pictures.

    Args:
        first_only: pictures on which only the first is right.
        second_only: pictures on which only the second is right.
        total: all pictures.
    """
    if total == 0:
        return None
    padded = total + 4 * _PSEUDO_COUNT
    first, second = first_only + _PSEUDO_COUNT, second_only + _PSEUDO_COUNT
    centre = (first - second) / padded
    half = Z * sqrt(first + second - (first - second) ** 2 / padded) / padded
    return Drop(
        value=(first_only - second_only) / total,
        low=max(-1.0, centre - half),
        high=min(1.0, centre + half),
        first_only=first_only,
        second_only=second_only,
        p_value=_mcnemar(first_only, second_only),
    )


def _mcnemar(first_only: int, second_only: int) -> float:
    """Two-sided binomial test with whole numbers, so that nothing underflows."""
    tosses, fewer = first_only + second_only, min(first_only, second_only)
    term = ways = 1
    for number in range(1, fewer + 1):
        term = term * (tosses - number + 1) // number
        ways += term
    return min(1.0, 2 * ways / (1 << tosses))
