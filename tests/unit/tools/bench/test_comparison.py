from __future__ import annotations

import numpy as np
import pytest

from app.errors import InputError
from tests.unit.tools.bench.results import result, row
from tools.bench.comparison import FEWEST, compare, ratio_interval
from tools.bench.results import Row


def noise(seed: int, scale: float = 1.0, count: int = 25) -> tuple[float, ...]:
    """Times as a busy machine gives them: a floor, and a tail of delays."""
    rng = np.random.default_rng(seed)
    return tuple(scale * (0.010 + rng.exponential(0.001, count)))


@pytest.mark.parametrize("seed", range(5))
def test_two_runs_of_the_same_have_no_difference(seed: int) -> None:
    names = [f"mode {number}" for number in range(40)]
    first = result([row(n, *noise(100 * seed + i)) for i, n in enumerate(names)])
    second = result([row(n, *noise(7777 + 100 * seed + i)) for i, n in enumerate(names)])
    assert compare(first, second).differences == ()


def test_a_run_has_no_difference_to_itself() -> None:
    found = result([row("a", *noise(1))])
    (change,) = compare(found, found).changes
    assert change.ratio == 1.0
    assert not change.is_difference


@pytest.mark.parametrize(("scale", "differs"), [(1.5, True), (1 / 1.5, True), (1.04, False)])
def test_only_what_exceeds_noise_and_tolerance_counts(scale: float, differs: bool) -> None:
    rows = [row("a", *noise(1)), row("b", *noise(2))]
    changed = [row("a", *noise(3)), row("b", *noise(4, scale))]
    found = compare(result(rows), result(changed))
    assert [change.row.labels["mode"] for change in found.differences] == ["b"] * differs


def test_too_few_samples_never_tell() -> None:
    few = FEWEST - 1
    found = compare(result([row("a", *noise(1, 1, few))]), result([row("a", *noise(1, 9, few))]))
    assert found.changes[0].interval is None
    assert found.differences == ()


def test_microseconds_do_not_count() -> None:
    first = result([row("a", *(each / 1000 for each in noise(1)))])
    second = result([row("a", *(each / 500 for each in noise(1)))])
    assert compare(first, second).differences == ()


def test_interval_is_the_same_every_time_and_holds_the_ratio() -> None:
    first, second = noise(1), noise(2, 3.0)
    low, high = ratio_interval(first, second, 0.05)
    assert (low, high) == ratio_interval(first, second, 0.05)
    assert low < np.median(second) / np.median(first) < high


def test_rows_of_one_file_alone_are_named() -> None:
    not_measured = Row({"model": "m", "mode": "c"}, "latency", "s", (), "not available")
    first = result([row("a", 1.0), row("b", 1.0), not_measured])
    second = result([row("b", 1.0), row("d", 1.0)])
    found = compare(first, second)
    assert [each.labels["mode"] for each in found.only_first] == ["a"]
    assert [each.labels["mode"] for each in found.only_second] == ["d"]


@pytest.mark.parametrize(
    ("other", "message"),
    [(result([row("a", 1.0)], "load"), "same subcommand"), (result([]), "no row in common")],
)
def test_what_cannot_be_compared_is_refused(other: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        compare(result([row("a", 1.0)]), other)  # type: ignore[arg-type]
