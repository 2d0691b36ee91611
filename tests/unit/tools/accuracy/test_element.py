"""The worst number is named, with its distance in its own precision."""

from __future__ import annotations

import numpy as np
import pytest

from app.tensors import Array
from tools.accuracy.element import worst_element

NAN, INF = np.nan, np.inf


def array(*values: float, dtype: str = "float32") -> Array:
    return np.array(values, dtype=dtype)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("value", [1.0, -1.0, 0.0, 3e-5])
@pytest.mark.parametrize("steps", [1, 5])
def test_neighbours_are_one_ulp_apart(dtype: str, value: float, steps: int) -> None:
    start = array(value, dtype=dtype)
    end = start
    for _ in range(steps):
        end = np.nextafter(end, np.asarray(-INF, dtype=dtype))
    found = worst_element(start, end)
    assert found is not None
    assert found.ulps == steps


def test_the_place_is_the_worst_ones() -> None:
    expected = np.zeros((2, 3, 4), dtype=np.float32)
    actual = expected.copy()
    actual[0, 1, 1], actual[1, 2, 3] = 0.5, -2
    found = worst_element(expected, actual)
    assert found is not None
    assert (found.index, found.expected, found.actual) == ((1, 2, 3), 0, -2)
    assert str(found).startswith("at [1, 2, 3] expected 0, got -2 (")


@pytest.mark.parametrize("wrong", [NAN, INF])
def test_what_is_not_finite_is_worst(wrong: float) -> None:
    found = worst_element(array(1, 2, 3), array(900, wrong, 3))
    assert found is not None
    assert (found.index, found.ulps) == ((1,), None)


@pytest.mark.parametrize(
    ("expected", "actual"),
    [
        (array(1, NAN, INF), array(1, NAN, INF)),
        (array(), array()),
        (array(1), array(1, 2)),
        (array(1), array(1, dtype="float64")),
        (np.array(["a"], dtype=object), np.array(["b"], dtype=object)),
    ],
)
def test_nothing_to_name(expected: Array, actual: Array) -> None:
    assert worst_element(expected, actual) is None


def test_the_two_zeros_are_told_apart() -> None:
    found = worst_element(array(0.0), array(-0.0))
    assert found is not None
    assert found.ulps == 0


def test_whole_numbers_have_no_ulps() -> None:
    found = worst_element(np.array([3, 4]), np.array([3, 9]))
    assert found is not None
    assert str(found) == "at [1] expected 4, got 9"
