"""Compares outputs with given ones of another library, number by number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from app.tensors import Array, widened

RTOL: Final = 1e-3
"""As ONNX's own backend tests ask (onnx.backend.test.runner)."""

ATOL: Final = 1e-5
"""For numbers near 0: ten times the rounding that another order of adding up leaves in outputs
around 1."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """A number holds when |actual - given| ≤ atol + rtol × |given|.

    Attributes:
        rtol: relative part.
        atol: absolute part.
    """

    rtol: float = RTOL
    atol: float = ATOL


@dataclass(frozen=True, slots=True)
class GivenOutput:
    """One output of one example.

    Attributes:
        example: its name.
        subject: "whole model" or "partitions".
        tensor: the output.
        elements: how many numbers were given.
        beyond: how many of them are further off than the tolerance.
        absolute: largest difference; infinite when they can't be compared.
        problem: what is wrong; "" when it holds.
    """

    example: str
    subject: str
    tensor: str
    elements: int
    beyond: int
    absolute: float
    problem: str

    @property
    def passed(self) -> bool:
        """Whether it is the given output."""
        return not self.problem


def compare_given(
    example: str,
    subject: str,
    expected: Mapping[str, Array],
    actual: Mapping[str, Array],
    tolerance: Tolerance,
) -> list[GivenOutput]:
    """Compares every given output."""
    return [
        GivenOutput(example, subject, name, array.size, *_compare(array, actual[name], tolerance))
        for name, array in expected.items()
    ]


def _compare(expected: Array, actual: Array, tolerance: Tolerance) -> tuple[int, float, str]:
    """Gives how many numbers are beyond the tolerance, the largest difference, and the problem."""
    expected, actual = widened(expected), widened(actual)
    if expected.shape != actual.shape or expected.dtype != actual.dtype:
        return (
            expected.size,
            np.inf,
            f"given are {expected.dtype} {list(expected.shape)}, "
            f"computed were {actual.dtype} {list(actual.shape)}",
        )
    if expected.dtype.kind not in "fiub":
        wrong = int(np.count_nonzero(expected != actual))
        return wrong, np.inf if wrong else 0.0, "other values" if wrong else ""
    given, found = expected.astype(np.float64), actual.astype(np.float64)
    with np.errstate(invalid="ignore"):
        distance = np.abs(found - given)
        near = distance <= tolerance.atol + tolerance.rtol * np.abs(given)
    alike = (given == found) | (np.isnan(given) & np.isnan(found))
    distance = np.where(alike, 0.0, np.nan_to_num(distance, nan=np.inf, posinf=np.inf))
    beyond = ~(alike | (near & np.isfinite(given)))
    largest = float(distance.max(initial=0.0))
    if not beyond.any():
        return 0, largest, ""
    index = np.unravel_index(int(np.where(beyond, distance, -1.0).argmax()), distance.shape)
    count, place = int(np.count_nonzero(beyond)), [int(each) for each in index]
    return (
        count,
        largest,
        f"{count} of {expected.size} numbers are beyond the tolerance, the furthest at {place}: "
        f"given {given[index]:.7g}, computed {found[index]:.7g}",
    )
