"""Laws of dividing a budget."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.serving.shares import Needs, fair_share, needs_of, to_unload
from tests.fakes import layout, spec

SIZES = st.integers(0, 1000)


@given(st.integers(1, 10_000), st.integers(1, 10), SIZES, SIZES)
def test_a_share_is_within_the_budget_and_enough_and_not_idle(
    total: int, models: int, least: int, more: int
) -> None:
    needs = Needs(least, least + more)
    share = fair_share(total, models, needs)
    assert share <= total
    assert share >= min(least, total)
    assert share <= max(needs.most_bytes, least)
    if least <= total // models <= needs.most_bytes:
        assert share == total // models


@given(SIZES, st.integers(0, 3), st.lists(SIZES, max_size=6), SIZES)
def test_no_more_is_unloaded_than_needed(
    free: int, places: int, idle: list[int], least: int
) -> None:
    def fits(number: int) -> bool:
        return free + sum(idle[:number]) >= least and places + number >= 1

    number = to_unload(free, places, idle, least)
    if number is None:
        assert not fits(len(idle))
    else:
        assert fits(number)
        assert number == 0 or not fits(number - 1)


def test_needs_add_up() -> None:
    x = spec("x", 4)
    parts = [
        layout([x], [x], boundary_bytes=16, activation_bytes=100, session_bytes=5),
        layout([x], [x], boundary_bytes=32, activation_bytes=10, session_bytes=7),
    ]
    needs = needs_of(parts, [1000, 300], 50)
    assert needs.least_bytes == 50 + 12 + 1000 + 116
    assert needs.most_bytes > 50 + 12 + 1300 + 116
