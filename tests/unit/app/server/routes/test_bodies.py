from __future__ import annotations

import threading

import pytest

from app.limits import MAX_BODY_BYTES, MAX_DECODED_BYTES, MAX_JSON_BYTES, MIB
from app.server.routes.bodies import DecodedRoom, DecodingTurn

WATCHDOG_S = 20


def test_large_requests_wait_for_room_and_small_ones_do_not() -> None:
    room = DecodedRoom(4 * MIB)
    inside, proceed = threading.Semaphore(0), threading.Event()

    def hold() -> None:
        with room.hold(2 * MIB):
            inside.release()
            assert proceed.wait(WATCHDOG_S)

    threads = [threading.Thread(target=hold) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert inside.acquire(timeout=WATCHDOG_S)
    assert inside.acquire(timeout=WATCHDOG_S)
    assert not inside.acquire(blocking=False), "the third has no room"
    with room.hold(1000):
        pass
    proceed.set()
    for thread in threads:
        thread.join(WATCHDOG_S)
    assert inside.acquire(blocking=False)
    with room.hold(4 * MIB):  # everything was given back
        pass


def test_room_is_given_back_after_an_error() -> None:
    room = DecodedRoom(MIB)
    for _ in range(3):
        # More than there is gets all there is.
        with pytest.raises(ZeroDivisionError), room.hold(100 * MIB):
            raise ZeroDivisionError


def test_the_largest_request_has_room() -> None:
    assert 2 * MAX_BODY_BYTES <= MAX_DECODED_BYTES
    assert 5 * MAX_JSON_BYTES <= MAX_DECODED_BYTES


def test_one_large_body_is_decoded_at_a_time() -> None:
    turn = DecodingTurn()
    entered = threading.Event()

    def second() -> None:
        with turn.wait(MIB):
            entered.set()

    thread = threading.Thread(target=second)
    with turn.wait(MIB):
        thread.start()
        with turn.wait(10):
            assert not entered.is_set()
    thread.join(WATCHDOG_S)
    assert entered.is_set()
