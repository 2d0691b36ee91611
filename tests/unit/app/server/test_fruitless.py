"""How long addresses wait whose connections bring nothing."""

from __future__ import annotations

import pytest

from app.server.fruitless import FIRST_WAIT_S, FORGET_S, FREE_ENDS, MOST_WAIT_S, Fruitless


def after(ends: int, now: float = 5.0) -> Fruitless:
    found = Fruitless()
    for _ in range(ends):
        found.ended("a", now)
    return found


@pytest.mark.parametrize(
    ("ends", "wait"),
    [
        (0, None),
        (FREE_ENDS, None),
        (FREE_ENDS + 1, FIRST_WAIT_S),
        (FREE_ENDS + 2, 2 * FIRST_WAIT_S),
        (FREE_ENDS + 5, 16 * FIRST_WAIT_S),
        (FREE_ENDS + 7, MOST_WAIT_S),
        (FREE_ENDS + 10_000, MOST_WAIT_S),
    ],
)
def test_the_wait_doubles_up_to_a_bound(ends: int, wait: float | None) -> None:
    assert after(ends).due("a") == (0.0 if wait is None else 5.0 + wait)
    assert after(ends).due("b") == 0.0


def test_a_step_begins_the_wait_anew() -> None:
    found = after(FREE_ENDS + 1)
    found.stepped("a", 7.0)
    found.stepped("b", 7.0)
    assert (found.due("a"), found.due("b")) == (7.0 + FIRST_WAIT_S, 0.0)


def test_an_answer_is_a_new_start() -> None:
    found = after(FREE_ENDS + 1)
    found.answered("a")
    found.ended("a", 6.0)
    assert found.due("a") == 0.0


def test_addresses_are_forgotten() -> None:
    found = Fruitless()
    for number in range(1000):
        found.ended(f"host {number}", number * FORGET_S / 10)
        assert len(found) <= 11
