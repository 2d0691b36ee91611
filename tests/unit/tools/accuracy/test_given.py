"""Given outputs hold within the tolerance, and not beyond."""

from __future__ import annotations

import numpy as np
import pytest

from app.tensors import Array
from tools.accuracy.given import GivenOutput, Tolerance, compare_given

NAN, INF = np.nan, np.inf


def compare(given: Array, computed: Array, rtol: float = 0.1, atol: float = 0.5) -> GivenOutput:
    [found] = compare_given(
        "set", "partitions", {"y": given}, {"y": computed}, Tolerance(rtol, atol)
    )
    return found


@pytest.mark.parametrize(
    ("given", "computed", "beyond"),
    [
        ([10.0, 0.0], [11.5, 0.5], 0),
        ([10.0, 0.0], [11.6, 0.5], 1),
        ([-10.0, 0.0], [-11.5, -0.6], 1),
        ([NAN, INF, -INF], [NAN, INF, -INF], 0),
        ([NAN, INF, 1.0], [1.0, -INF, NAN], 3),
        ([INF], [1.0], 1),
    ],
)
def test_the_bound_is_atol_plus_rtol_times_given(
    given: list[float], computed: list[float], beyond: int
) -> None:
    found = compare(np.array(given), np.array(computed))
    assert found.beyond == beyond
    assert found.passed == (beyond == 0)


def test_as_numpy_judges() -> None:
    rng = np.random.default_rng(1)
    given = rng.standard_normal(5000)
    computed = given + rng.normal(0, 0.3, 5000)
    near = np.isclose(computed, given, rtol=0.1, atol=0.5)
    assert compare(given, computed).beyond == np.count_nonzero(~near)


@pytest.mark.parametrize("other", [np.ones(3), np.ones((2, 1)), np.ones(2, np.float32)])
def test_another_form_never_holds(other: Array) -> None:
    found = compare(np.ones(2), other, rtol=1e9)
    assert not found.passed
    assert "given are float64 [2]" in found.problem


def test_the_furthest_is_named() -> None:
    found = compare(np.zeros((2, 2)), np.array([[0.6, 0], [0, -7]]))
    assert "2 of 4 numbers are beyond the tolerance, the furthest at [1, 1]" in found.problem
    assert "given 0, computed -7" in found.problem
    assert found.absolute == 7


def test_strings_are_equal_or_not() -> None:
    one, two = np.array(["a"], dtype=object), np.array(["b"], dtype=object)
    assert compare(one, one.copy()).passed
    assert not compare(one, two).passed
