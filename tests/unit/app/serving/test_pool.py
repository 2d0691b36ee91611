"""What clients share: nobody takes so much that somebody who comes anew finds nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.serving.pool import Pool


def test_one_alone_gets_half() -> None:
    pool = Pool(100)
    assert pool.take("a", 50)
    assert not pool.take("a", 1)
    assert pool.take("b", 25), "half is left, of which the next one gets half"
    assert pool.take("c", 12)


def test_what_is_given_back_can_be_taken_again() -> None:
    pool = Pool(10)
    assert pool.take("a", 5)
    pool.give_back("a", 5)
    assert (pool.used, pool.take("a", 5)) == (0, True)


def test_who_holds_most_is_named_only_while_too_much_is_held() -> None:
    pool = Pool(10)
    pool.add("a", 4)
    pool.add("b", 6)
    assert pool.overdrawn() is None
    pool.add("a", 3)
    assert pool.overdrawn() == "a"


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 30)), max_size=60))
def test_as_much_is_left_as_the_greediest_holds(wishes: list[tuple[str, int]]) -> None:
    pool = Pool(100)
    held = dict.fromkeys("abcd", 0)
    for client, amount in wishes:
        if pool.take(client, amount):
            held[client] += amount
        assert pool.used == sum(held.values()) <= 100
        assert pool.has_room("new", (100 - pool.used) // 2), "half of what is left"
        assert pool.used <= 100 - 100 // 2**4, "and four don't take everything"
