from __future__ import annotations

import numpy as np
import pytest

from app.tensors import Array
from tools.accuracy.difference import compare

INF, NAN = np.inf, np.nan


def array(*values: float, dtype: str = "float32") -> Array:
    return np.array(values, dtype=dtype)


@pytest.mark.parametrize(
    "values",
    [
        array(1, 2),
        array(NAN, INF, -INF),
        array(),
        np.array(["a", "b"], dtype=object),
        np.array([True, False]),
    ],
)
def test_equal_bits_are_identical(values: Array) -> None:
    found = compare({"y": values}, {"y": values.copy()})
    assert found.identical
    assert found.absolute == found.relative == 0


def test_strings_are_compared_by_content() -> None:
    """Not by the addresses that an array of objects holds."""
    one, two = (np.array(["".join(["wör", "d"])], dtype=object) for _ in range(2))
    assert compare({"y": one}, {"y": two}).identical
    assert not compare({"y": one}, {"y": np.array(["word"], dtype=object)}).identical


@pytest.mark.parametrize(
    ("reference", "actual", "absolute", "relative"),
    [
        (array(1, 4), array(1, 5), 1, 0.25),
        (array(0, 0), array(0, 2), 2, 2),
        (array(0.0), array(-0.0), 0, 0),
        (array(NAN), array(1), INF, INF),
        (array(1), array(NAN), INF, INF),
        (array(INF), array(-INF), INF, INF),
        (array(INF, 2), array(INF, 3), 1, 0.5),
        (array(1), array(1, dtype="float64"), INF, INF),
        (array(1), array(1, 1), INF, INF),
        (np.array([200], np.uint8), np.array([100], np.uint8), 100, 0.5),
    ],
)
def test_distance(reference: Array, actual: Array, absolute: float, relative: float) -> None:
    found = compare({"y": reference}, {"y": actual})
    assert not found.identical
    assert (found.absolute, found.relative, found.tensor) == (absolute, relative, "y")


def test_worst_output_is_named() -> None:
    reference = {"a": array(1), "b": array(1), "c": array(1)}
    assert compare(reference, reference | {"b": array(3), "c": array(2)}).tensor == "b"
    found = compare(reference, {"a": array(1), "c": array(9)})
    assert (found.tensor, found.absolute) == ("b", INF)
