from __future__ import annotations

import pytest

from tests.unit.tools.planner.graphs import GRAPH
from tools.planner.liveness import Interval, Liveness, aligned

LIVE = Liveness(GRAPH)


def test_lives() -> None:
    assert LIVE.intervals == {
        "x": Interval(-1, 3),
        "unused": Interval(-1, 0),
        "a": Interval(0, 1),
        "b": Interval(1, 2),
        "side": Interval(1, 4),
        "c": Interval(2, 3),
        "y": Interval(3, 4),
    }


@pytest.mark.parametrize(("cut", "size"), [(0, 11), (1, 101), (2, 1201), (3, 10_201)])
def test_bytes_across_a_cut(cut: int, size: int) -> None:
    assert LIVE.crossing_bytes(cut) == size


@pytest.mark.parametrize(
    ("stretch", "inputs", "outputs", "released"),
    [
        ((0, 1), ["x"], ["a"], ["unused"]),
        ((1, 3), ["a"], ["side", "c"], ["a"]),
        ((3, 4), ["c", "x"], ["y"], ["x", "c"]),
        ((0, 4), ["x"], ["side", "y"], ["x", "unused"]),
    ],
)
def test_boundary(
    stretch: tuple[int, int], inputs: list[str], outputs: list[str], released: list[str]
) -> None:
    assert LIVE.inputs(*stretch) == inputs
    assert LIVE.outputs(*stretch) == outputs
    assert LIVE.released(*stretch) == released


def test_values_made_inside_count_while_they_live() -> None:
    assert list(LIVE.inner_live_bytes(0)) == [100, 1300, 11_200, 10_200 + 100_000]
    assert list(LIVE.inner_live_bytes(2)) == [10_000, 110_000]
    assert LIVE.activation_bytes(0, 2) == 1300


def test_weights_count_once_and_aligned() -> None:
    assert LIVE.weights(0, 4) == ["w", "v"]
    assert LIVE.weights_bytes(0, 4) == 64 + 128
    assert LIVE.weights_bytes(0, 1) + LIVE.weights_bytes(1, 4) == 64 + 64 + 128


@pytest.mark.parametrize(("size", "expected"), [(0, 0), (1, 64), (64, 64), (65, 128)])
def test_alignment(size: int, expected: int) -> None:
    assert aligned(size) == expected
