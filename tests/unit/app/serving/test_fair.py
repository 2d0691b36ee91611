"""Laws of fair shares."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.serving.fair import MOST_TURNS, FairQueue

PLENTY = 1 << 30
TENANTS = st.sampled_from("abc")


@dataclass(eq=False)
class Request:
    tenant: str
    priority: int = 0
    number: int = 0


def queue(
    *, places: int = PLENTY, per_tenant: int = PLENTY, running: int = PLENTY
) -> FairQueue[Request]:
    return FairQueue(places, per_tenant, running)


def offered(found: FairQueue[Request], tenants: str) -> list[Request]:
    requests = [Request(tenant, number=number) for number, tenant in enumerate(tenants)]
    for request in requests:
        assert found.offer(request, request.tenant) is None
    return requests


def take(found: FairQueue[Request]) -> Request:
    request = found.take()
    assert request is not None
    return request


@given(st.lists(TENANTS, max_size=40))
def test_between_two_turns_of_a_tenant_every_other_that_waits_has_one(tenants: list[str]) -> None:
    found = queue()
    offered(found, "".join(tenants))
    order = [take(found).tenant for _ in tenants]
    waiting = Counter(tenants)
    for position, tenant in enumerate(order):
        waiting[tenant] -= 1
        after = order[position + 1 :]
        until_next = after[: after.index(tenant)] if tenant in after else after
        if tenant in after:
            assert set(until_next) == {each for each, left in waiting.items() if left} - {tenant}
            assert len(until_next) == len(set(until_next)), "nobody has two turns meanwhile"
    assert found.take() is None


@pytest.mark.parametrize("may_run", [1, 2])
def test_who_waits_and_may_run_is_passed_once_by_each(may_run: int) -> None:
    """Also by tenants that had to wait for their own running requests before."""
    for seed in range(50):
        rng = random.Random(seed)
        asks, ends = ([rng.random() for _ in "abc"] for _ in range(2))
        found = queue(running=may_run)
        waiting, running = Counter[str](), Counter[str]()
        passed: dict[str, Counter[str]] = {}
        for _ in range(200):
            step = rng.choice(("offer", "take", "done"))
            (tenant,) = rng.choices("abc", asks if step == "offer" else ends)
            if step == "offer":
                found.offer(Request(tenant), tenant)
                waiting[tenant] += 1
            elif step == "take" and (request := found.take()) is not None:
                tenant = request.tenant
                del passed[tenant]
                for each in passed.values():
                    each[tenant] += 1
                    assert each[tenant] == 1
                waiting[tenant] -= 1
                running[tenant] += 1
            elif step == "done" and running[tenant]:
                found.done(tenant)
                running[tenant] -= 1
            ready = [each for each in "abc" if waiting[each] and running[each] < may_run]
            passed = {each: passed.get(each, Counter()) for each in ready}


def test_who_could_not_run_gets_no_turns_for_it_later() -> None:
    found = queue(running=1)
    offered(found, "aaab")
    assert take(found).tenant == "a"
    for _ in range(5):
        assert take(found).tenant == "b"
        found.done("b")
        found.offer(Request("b"), "b")
    found.done("a")
    order = []
    for _ in range(3):
        order.append(take(found).tenant)
        found.done(order[-1])
    assert order == ["a", "b", "a"]


def test_a_newcomer_waits_for_one_turn_of_each_and_no_more() -> None:
    found = queue()
    offered(found, "a" * 100 + "b" * 50)
    found.offer(Request("c"), "c")
    assert [take(found).tenant for _ in range(4)] == ["a", "b", "c", "a"]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=20))
def test_inside_a_tenant_priority_then_arrival(priorities: list[int]) -> None:
    found = queue()
    for number, priority in enumerate(priorities):
        found.offer(Request("a", priority, number), "a", priority)
    order = [take(found) for _ in priorities]
    keys = [(each.priority, each.number) for each in order]
    assert keys == sorted(keys)


def test_priority_is_worth_nothing_against_other_tenants() -> None:
    found = queue()
    offered(found, "bb")
    for number in range(3):
        found.offer(Request("a", -100, number), "a", -100)
    assert [take(found).tenant for _ in range(5)] == ["b", "a", "b", "a", "a"]


def test_a_tenant_runs_no_more_than_it_may_and_others_pass_it() -> None:
    found = queue(running=2)
    offered(found, "aaaab")
    assert [take(found).tenant for _ in range(3)] == ["a", "b", "a"]
    assert found.take() is None, "two of a's are running"
    assert (len(found), found.running) == (2, 3)
    found.done("b")
    assert found.take() is None
    found.done("a")
    assert take(found).tenant == "a"


def test_one_that_does_not_fit_is_passed_over_and_keeps_its_place() -> None:
    found = queue()
    offered(found, "aab")
    first = found.take(lambda request: request.tenant == "b")
    assert first is not None
    assert first.tenant == "b"
    assert found.take(lambda request: request.tenant == "b") is None
    assert take(found).number == 0


def test_a_tenant_has_no_more_places_than_its_own() -> None:
    found = queue(per_tenant=2)
    offered(found, "aa")
    third = Request("a")
    assert found.offer(third, "a") is third
    assert found.offer(Request("b"), "b") is None
    assert len(found) == 3


def test_when_all_places_are_taken_the_one_with_the_most_gives_its_last_up() -> None:
    found = queue(places=4)
    requests = offered(found, "aaab")
    assert found.offer(Request("c"), "c") is requests[2]
    mine = Request("a")
    assert found.offer(mine, "a") is mine, "who has the most can't displace itself"
    order = [take(found).tenant for _ in range(4)]
    assert order == ["a", "b", "c", "a"]


def test_running_requests_count_for_places_and_are_never_displaced() -> None:
    found = queue(places=2)
    offered(found, "aa")
    take(found)
    take(found)
    mine = Request("b")
    assert found.offer(mine, "b") is mine
    found.done("a")
    assert found.offer(mine, "b") is None


@given(st.lists(TENANTS, min_size=1, max_size=40), st.integers(1, 8), st.integers(1, 8))
def test_places_are_never_exceeded_and_nothing_is_lost(
    tenants: list[str], places: int, per_tenant: int
) -> None:
    found = queue(places=places, per_tenant=per_tenant)
    refused = []
    for number, tenant in enumerate(tenants):
        out = found.offer(Request(tenant, number=number), tenant)
        if out is not None:
            refused.append(out)
        assert len(found) <= places
    taken = []
    while (request := found.take()) is not None:
        taken.append(request)
    numbers = sorted(each.number for each in [*refused, *taken])
    assert numbers == list(range(len(tenants)))
    shares = Counter(each.tenant for each in taken)
    assert all(share <= per_tenant for share in shares.values())
    wished = Counter(tenants)
    if len(taken) == places:
        for tenant, share in shares.items():
            poorer = [each for each in wished if shares[each] < min(wished[each], per_tenant)]
            assert all(share <= shares[each] + 1 for each in poorer if each != tenant)


def test_withdrawn_once_and_never_served() -> None:
    found = queue()
    requests = offered(found, "aba")
    assert found.withdraw(requests[0], "a")
    assert not found.withdraw(requests[0], "a")
    assert not found.withdraw(Request("z"), "z")
    assert [take(found).number for _ in range(2)] == [2, 1]


def test_tenants_that_left_are_forgotten() -> None:
    """Names come from clients: they must not pile up."""
    found = queue(places=1)
    for number in range(100):
        name = f"tenant {number}"
        found.offer(Request(name), name)
        found.offer(Request("late"), "late")
        take(found)
        found.done(name)
    assert not found._lines
    assert not found._turns


def test_who_comes_anew_goes_before_who_was_just_served() -> None:
    found = queue()
    offered(found, "aaa")
    assert take(found).tenant == "a"
    found.offer(Request("b"), "b")
    assert [take(found).tenant for _ in range(3)] == ["b", "a", "a"]


def test_leaving_and_coming_back_gives_no_second_turn_of_a_round() -> None:
    found = queue()
    offered(found, "ab")
    assert take(found).tenant == "a"
    found.done("a")
    found.offer(Request("a"), "a")
    assert [take(found).tenant for _ in range(2)] == ["b", "a"]


def test_ever_new_names_do_not_keep_a_tenant_waiting_for_ever() -> None:
    found = queue()
    offered(found, "aa")
    assert take(found).tenant == "a"
    turns = 0
    for number in range(2 * MOST_TURNS):
        found.offer(Request(f"new {number}"), f"new {number}")
        tenant = take(found).tenant
        found.done(tenant)
        assert len(found._served) <= MOST_TURNS
        if tenant == "a":
            break
        turns += 1
    assert turns <= MOST_TURNS


@given(st.lists(TENANTS, max_size=40))
def test_first_is_what_is_taken(tenants: list[str]) -> None:
    found = queue()
    offered(found, "".join(tenants))
    for _ in tenants:
        expected = found.first()
        assert found.take() is expected
    assert found.first() is None


def test_what_is_taken_out_of_turn_leaves_the_tenant_its_turn() -> None:
    found = queue()
    offered(found, "aabb")
    assert take(found).tenant == "a"
    guest = found.take(lambda each: each.tenant == "b", is_turn=False)
    assert guest is not None
    assert guest.tenant == "b"
    assert [take(found).tenant for _ in range(2)] == ["b", "a"], "not a's, though b was served"
