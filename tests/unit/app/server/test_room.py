"""The room for bodies: never above its bound, never stuck."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.server.room import Room, Share

CAPACITY, LARGEST, STEP = 96, 32, 5


def test_small_steps_leave_the_last_part_for_whoever_can_finish() -> None:
    room = Room(CAPACITY, LARGEST)
    slow = [Share(32) for _ in range(40)]
    for _ in range(10):
        for share in slow:
            room.reserve(share, STEP)
    complete = [share for share in slow if not share.unreserved_bytes]
    assert complete, "one of them must be able to finish"
    assert room.used_bytes <= CAPACITY


def test_a_small_body_still_fits_while_slow_clients_hold_large_ones() -> None:
    room = Room(CAPACITY, LARGEST)
    for _ in range(12):
        assert room.reserve(Share(32), STEP)
    small = Share(3)
    assert room.reserve(small, STEP)
    assert small.unreserved_bytes == 0


def test_release_gives_everything_back_once() -> None:
    room = Room(CAPACITY, LARGEST)
    share = Share(32)
    assert room.reserve(share, STEP)
    room.release(share)
    room.release(share)
    assert room.used_bytes == 0
    assert not share.unreserved_bytes, "a released body can't take room again"


def test_a_room_below_the_largest_body_is_refused() -> None:
    with pytest.raises(ValueError, match="31"):
        Room(31, 32)


@given(st.lists(st.integers(1, LARGEST), max_size=30), st.randoms(use_true_random=False))
def test_every_body_completes_whatever_the_order(sizes: list[int], order: object) -> None:
    room = Room(CAPACITY, LARGEST)
    waiting = [Share(size) for size in sizes]
    while waiting:
        order.shuffle(waiting)  # type: ignore[attr-defined]
        progressed = [share for share in waiting if room.reserve(share, STEP)]
        assert room.used_bytes <= CAPACITY
        assert progressed, "nobody can go on"
        for share in [share for share in waiting if not share.unreserved_bytes]:
            waiting.remove(share)
            room.release(share)
    assert room.used_bytes == 0
