"""The number in which two tensors differ most."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from app.tensors import Array, widened


@dataclass(frozen=True, slots=True)
class Element:
    """One number of a tensor.

    Attributes:
        index: its place, one number per dimension.
        expected, actual: as numbers of double precision.
        ulps: how many numbers of the tensor's own type lie between them, plus one; None for
            whole numbers, NaN and infinities.
    """

    index: tuple[int, ...]
    expected: float
    actual: float
    ulps: int | None

    def __str__(self) -> str:
        """Says place and values; nine digits tell any two FP32 numbers apart."""
        ulps = "" if self.ulps is None else f" ({self.ulps} ulp{'s' if self.ulps != 1 else ''})"
        return f"at {list(self.index)} expected {self.expected:.9g}, got {self.actual:.9g}{ulps}"


def worst_element(expected: Array, actual: Array) -> Element | None:
    """Finds the number that is furthest off; the first of equals.

    NaN in only one of them is as far off as can be, and so is an infinity.

    Returns:
        None when all numbers are equal, or the tensors can't be compared number by number.
    """
    if expected.shape != actual.shape or expected.dtype != actual.dtype:
        return None
    expected, actual = widened(expected), widened(actual)
    if expected.dtype.kind not in "fiub" or not expected.size:
        return None
    one, two = expected.astype(np.float64).reshape(-1), actual.astype(np.float64).reshape(-1)
    with np.errstate(invalid="ignore"):
        far = np.nan_to_num(np.abs(one - two), nan=np.inf, posinf=np.inf)
    same = ((one == two) & (np.signbit(one) == np.signbit(two))) | (np.isnan(one) & np.isnan(two))
    far = np.where(same, -1.0, far)
    place = int(far.argmax())
    if far[place] < 0:
        return None
    index = tuple(int(each) for each in np.unravel_index(place, expected.shape))
    return Element(
        index, float(one[place]), float(two[place]), _ulps(expected[index], actual[index])
    )


def _ulps(expected: np.generic, actual: np.generic) -> int | None:
    if expected.dtype.kind != "f" or not np.isfinite([expected, actual]).all():
        return None
    return abs(_rank(expected) - _rank(actual))


def _rank(number: np.generic) -> int:
    """Gives the place of a number among all of its type; both zeros have the same."""
    bits = number.dtype.itemsize * 8
    raw = int(number.view(f"u{bits // 8}"))
    magnitude = raw & ((1 << (bits - 1)) - 1)
    return -magnitude if raw >> (bits - 1) else magnitude
