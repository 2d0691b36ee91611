"""Quotas hold over every interval, and nobody waits longer than told."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.access.policy import Quotas
from app.access.quota import Bucket, Usage

RATES = st.integers(1, 50)
GAPS = st.sampled_from([0.0, 0.001, 0.01, 0.1, 0.5, 1.0, 30.0])
ASKED = st.lists(st.tuples(GAPS, st.integers(0, 120)), max_size=60)
TINY = 1e-6


def granted(rate: int, asked: list[tuple[float, int]]) -> list[tuple[float, int]]:
    """Plays requests, each some time after the one before; gives those that were let through."""
    bucket, now, found = Bucket(rate, 0.0), 0.0, []
    for gap, cost in asked:
        now += gap
        if bucket.wait_s(cost, now) == 0:
            bucket.take(cost)
            found.append((now, cost))
    return found


@settings(max_examples=200)
@given(RATES, ASKED)
def test_no_interval_gets_more_than_the_rate_and_one_second_and_one_request(
    rate: int, asked: list[tuple[float, int]]
) -> None:
    found = granted(rate, asked)
    for first in range(len(found)):
        for last in range(first, len(found)):
            took = sum(cost for _, cost in found[first : last + 1])
            largest = max(cost for _, cost in found[first : last + 1])
            length_s = found[last][0] - found[first][0]
            assert took <= rate * length_s + rate + max(0, largest - rate) + TINY


@settings(max_examples=200)
@given(RATES, ASKED, st.integers(0, 120))
def test_who_waits_as_long_as_told_is_let_through_and_not_before(
    rate: int, asked: list[tuple[float, int]], cost: int
) -> None:
    bucket, now = Bucket(rate, 0.0), 0.0
    for gap, each in asked:
        now += gap
        if bucket.wait_s(each, now) == 0:
            bucket.take(each)
    wait_s = bucket.wait_s(cost, now)
    assert wait_s <= (120 + rate) / rate + TINY, "however much is asked, a request has its turn"
    if wait_s > 1e-3:
        assert bucket.wait_s(cost, now + wait_s * 0.99) > 0
    assert bucket.wait_s(cost, now + wait_s + TINY) == 0


@settings(max_examples=100)
@given(RATES, st.lists(st.integers(0, 120), max_size=30))
def test_asking_and_being_refused_costs_nothing(rate: int, costs: list[int]) -> None:
    asked, quiet = Bucket(rate, 0.0), Bucket(rate, 0.0)
    for bucket in (asked, quiet):
        bucket.take(rate)
    for cost in costs:
        asked.wait_s(cost, 0.25)
    assert asked.wait_s(rate, 0.5) == pytest.approx(quiet.wait_s(rate, 0.5))


def test_a_clock_that_goes_back_gives_nothing_away() -> None:
    bucket = Bucket(10, 100.0)
    bucket.take(10)
    assert bucket.wait_s(1, 50.0) == pytest.approx(0.1)
    assert bucket.wait_s(1, 100.0) == pytest.approx(0.1)
    assert bucket.wait_s(1, 100.2) == 0


def test_a_request_larger_than_a_second_is_slowed_down_but_not_impossible() -> None:
    bucket = Bucket(10, 0.0)
    assert bucket.wait_s(35, 0.0) == 0
    bucket.take(35)
    assert bucket.wait_s(1, 0.0) == pytest.approx(2.6)
    assert bucket.wait_s(35, 3.5) == 0


def test_concurrent_requests_are_counted_until_they_end() -> None:
    usage = Usage(Quotas(concurrent=2), 0.0)
    assert usage.begin(1, 0.0) is None
    assert usage.begin(1, 0.0) is None
    assert usage.begin(1, 1e9) == ("concurrent", 0.0)
    usage.end()
    assert usage.begin(1, 0.0) is None
    assert usage.running == 2


@settings(max_examples=200)
@given(RATES, st.lists(st.tuples(GAPS, st.integers(0, 120), st.integers(0, 500)), max_size=40))
def test_no_interval_gets_more_than_the_rate_and_one_second_and_one_exchange(
    rate: int, asked: list[tuple[float, int, int]]
) -> None:
    """An answer is charged when it is there; what it owes, later requests wait for."""
    usage, now = Usage(Quotas(bytes_per_s=rate), 0.0), 0.0
    found: list[tuple[float, int]] = []
    for gap, request_bytes, answer_bytes in asked:
        now += gap
        if usage.begin(request_bytes, now) is None:
            usage.charge(answer_bytes, now)
            usage.end()
            found.append((now, request_bytes + answer_bytes))
    for first in range(len(found)):
        for last in range(first, len(found)):
            costs = [cost for _, cost in found[first : last + 1]]
            length_s = found[last][0] - found[first][0]
            assert sum(costs) <= rate * length_s + rate + max(costs) + TINY


def test_an_answer_counts_from_when_it_is_there() -> None:
    usage = Usage(Quotas(bytes_per_s=10), 0.0)
    assert usage.begin(0, 0.0) is None
    usage.charge(35, 100.0)
    refusal = usage.begin(1, 100.0)
    assert refusal is not None
    assert refusal[1] == pytest.approx(2.6)
    assert usage.begin(1, 102.7) is None


@pytest.mark.parametrize("quotas", [Quotas(), Quotas(requests_per_s=5), Quotas(concurrent=1)])
def test_without_a_quota_of_bytes_answers_cost_nothing(quotas: Quotas) -> None:
    usage = Usage(quotas, 0.0)
    assert usage.begin(1, 0.0) is None
    usage.charge(1 << 40, 0.0)
    usage.end()
    assert usage.begin(1, 0.0) is None


@pytest.mark.parametrize(
    ("quotas", "name"),
    [
        (Quotas(requests_per_s=1, bytes_per_s=1000), "requests_per_s"),
        (Quotas(requests_per_s=1000, bytes_per_s=10), "bytes_per_s"),
    ],
)
def test_a_refused_request_counts_in_no_quota(quotas: Quotas, name: str) -> None:
    usage = Usage(quotas, 0.0)
    assert usage.begin(10, 0.0) is None
    for _ in range(500):
        refusal = usage.begin(10, 0.0)
        assert refusal is not None
        assert refusal[0] == name
        assert refusal[1] == pytest.approx(1.0)
    assert usage.running == 1
    assert usage.begin(10, 1.0) is None


def test_the_longest_wait_is_the_one_told() -> None:
    usage = Usage(Quotas(requests_per_s=1, bytes_per_s=10), 0.0)
    assert usage.begin(100, 0.0) is None
    refusal = usage.begin(1, 0.0)
    assert refusal is not None
    assert refusal[0] == "bytes_per_s"
    assert refusal[1] == pytest.approx(9.1)
