"""Intervals keep their promises, and published examples come out."""

from __future__ import annotations

from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.accuracy.intervals import Z, drop, share


@given(st.integers(1, 3000).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total))))
def test_an_interval_holds_its_share_and_stays_between_0_and_1(counts: tuple[int, int]) -> None:
    count, total = counts
    found = share(count, total)
    assert found is not None
    assert 0 <= found.low <= found.value <= found.high <= 1
    other = share(total - count, total)
    assert other is not None
    assert other.low == pytest.approx(1 - found.high, abs=1e-12), "right and wrong mirror"


@pytest.mark.parametrize(("count", "total"), [(5, 10), (357, 359), (1, 50)])
def test_the_ends_solve_wilsons_equation(count: int, total: int) -> None:
    """At each end, the observed share is exactly Z standard errors away."""
    found = share(count, total)
    assert found is not None
    for end in (found.low, found.high):
        assert abs(found.value - end) == pytest.approx(Z * (end * (1 - end) / total) ** 0.5)


def test_more_pictures_say_more() -> None:
    widths = []
    for total in (10, 100, 1000):
        found = share(total // 2, total)
        assert found is not None
        widths.append(found.high - found.low)
    assert widths == sorted(widths, reverse=True)


def test_no_pictures_say_nothing() -> None:
    assert share(0, 0) is None
    assert drop(0, 0, 0) is None


def test_an_even_split_is_no_difference() -> None:
    found = drop(7, 7, 100)
    assert found is not None
    assert (found.value, found.p_value) == (0, 1)
    assert found.low == -found.high < 0


def test_swapping_the_two_changes_the_sign() -> None:
    one, two = drop(9, 2, 50), drop(2, 9, 50)
    assert one is not None
    assert two is not None
    assert (one.value, one.low, one.high) == (-two.value, -two.high, -two.low)
    assert one.p_value == two.p_value


def test_an_uneven_split_is_one() -> None:
    found = drop(20, 2, 200)
    assert found is not None
    assert found.low > 0
    assert found.p_value == 2 * sum(comb(22, k) for k in range(3)) / 2**22


def test_agresti_and_min() -> None:
    """Approval ratings, A. Agresti, "Categorical Data Analysis", table 10.1: 150 and 86 of 1600."""
    found = drop(150, 86, 1600)
    assert found is not None
    assert found.value == pytest.approx(0.04)
    assert found.low == pytest.approx(0.0211, abs=3e-4)
    assert found.high == pytest.approx(0.0589, abs=3e-4)


def test_large_counts_do_not_underflow() -> None:
    found = drop(6000, 5000, 50_000)
    assert found is not None
    assert 0 < found.p_value < 1e-15
