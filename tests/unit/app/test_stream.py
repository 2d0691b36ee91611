"""Weights through slots: what is loaded when, into which buffer, and what happens after errors."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count

import pytest

from app.loading import Load
from app.schedule import HAND_OVER_BYTES, Schedule
from app.stream import Buffer, WeightStream
from tests.fakes import OnePiece

SIZES = (10, 30, 20, 40)
WATCHDOG_S = 10.0


class Loads:
    """Fills a buffer with the partition's number plus one, and remembers what was asked.

    Attributes:
        seen: partitions in the order of loading.
        failing: partitions that raise.
        largest_together: most loads that ran at one moment.
    """

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.failing: set[int] = set()
        self.largest_together = 0
        self._running = 0
        self._lock = threading.Lock()

    def __call__(self, partition: int, into: Buffer) -> Load:
        """Begins to load one partition."""
        return Load(OnePiece(lambda: self._fill(partition, into)), count().__next__)

    def _fill(self, partition: int, into: Buffer) -> None:
        with self._lock:
            self._running += 1
            self.largest_together = max(self.largest_together, self._running)
            self.seen.append(partition)
        into[:] = 0 if partition in self.failing else partition + 1
        with self._lock:
            self._running -= 1
        if partition in self.failing:
            raise OSError(f"partition {partition}")


@contextmanager
def stream(
    loads: Loads,
    slots: int,
    pinned: Sequence[int] = (),
    *,
    alone: bool = False,
    sizes: Sequence[int] = SIZES,
) -> Iterator[WeightStream]:
    schedule = Schedule(frozenset(pinned), slots, max(sizes) if slots else 0, 0)
    found = WeightStream(
        schedule, sizes, loads, alone=alone, hand_over_bytes=0, clock_ns=count().__next__
    )
    try:
        yield found
    finally:
        found.close()


def settle(found: WeightStream) -> None:
    """Waits until everything that is loaded ahead is there."""
    for load in found._pending:
        load._wait()


def request(found: WeightStream, sizes: Sequence[int] = SIZES) -> None:
    """One request: every partition's weights are there, whole, until they are released."""
    found.begin()
    for partition, size in enumerate(sizes):
        loaded = found.take(partition)
        assert loaded.buffer.tobytes() == bytes([partition + 1]) * size
        found.release(partition)


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("slots", [1, 2, 3, 4])
@pytest.mark.parametrize("pinned", [(), (0,), (3,), (1, 2), (0, 1, 2)])
def test_every_request_gets_its_weights_in_order(
    slots: int, pinned: tuple[int, ...], alone: bool
) -> None:
    loads = Loads()
    with stream(loads, slots, pinned, alone=alone) as found:
        for _ in range(4):
            request(found)
    streamed = [each for each in loads.seen if each not in pinned]
    order = [each for each in range(len(SIZES)) if each not in pinned]
    assert streamed[: 4 * len(order)] == order * 4, "one endless sequence"
    assert len(streamed) <= 4 * len(order) + slots, "no further ahead than there are slots"
    for partition in pinned:
        assert loads.seen.count(partition) == 1, "what is kept is loaded once"
    assert loads.largest_together <= 2, "the loader and whoever takes"


def test_the_next_request_finds_its_first_weights_loaded() -> None:
    loads = Loads()
    with stream(loads, 2) as found:
        request(found)
        settle(found)
        assert loads.seen == [0, 1, 2, 3, 0, 1]
        found.begin()
        assert found.take(0).buffer.tobytes() == bytes([1]) * SIZES[0]
    assert loads.seen == [0, 1, 2, 3, 0, 1]


def test_alone_nothing_is_loaded_that_nobody_asked_for() -> None:
    loads = Loads()
    with stream(loads, 1, alone=True) as found:
        found.begin()
        assert loads.seen == []
        found.take(0)
        found.release(0)
    assert loads.seen == [0]


def test_nothing_is_read_when_everything_is_kept() -> None:
    loads = Loads()
    with stream(loads, 0, range(4)) as found:
        request(found)
        assert sorted(loads.seen) == [0, 1, 2, 3]
        loads.seen.clear()
        for _ in range(3):
            request(found)
    assert loads.seen == []


def test_buffers_of_what_is_kept_stay_where_they_are() -> None:
    """The engine binds them once."""
    with stream(Loads(), 1, (1,)) as found:
        places = set()
        for _ in range(3):
            found.begin()
            for partition in range(4):
                loaded = found.take(partition)
                if partition == 1:
                    places.add(loaded.buffer.ctypes.data)
                found.release(partition)
        assert len(places) == 1


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_weights_in_use_are_not_overwritten(slots: int) -> None:
    """While a partition runs, everything that is loaded ahead goes elsewhere."""
    loads = Loads()
    with stream(loads, slots) as found:
        for _ in range(3):
            found.begin()
            for partition, size in enumerate(SIZES):
                buffer = found.take(partition).buffer
                settle(found)
                assert buffer.tobytes() == bytes([partition + 1]) * size
                found.release(partition)


def test_what_was_there_costs_nothing_and_says_so() -> None:
    with stream(Loads(), 1, (0,)) as found:
        found.begin()
        first = found.take(0)
        assert (first.bytes, first.load_ns > 0, first.wait_ns > 0) == (10, True, True)
        again = found.take(0)
        assert (again.bytes, again.load_ns, again.wait_ns) == (0, 0, 0)
        streamed = found.take(1)
        assert (streamed.bytes, streamed.load_ns > 0) == (30, True)


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("slots", [1, 2, 3])
@pytest.mark.parametrize("pinned", [(), (0,), (2,)])
@pytest.mark.parametrize("failing", range(4))
def test_stream_is_usable_after_a_load_that_failed(
    slots: int, pinned: tuple[int, ...], failing: int, alone: bool
) -> None:
    loads = Loads()
    loads.failing = {failing}
    with stream(loads, slots, pinned, alone=alone) as found:
        for _ in range(2):
            found.begin()
            with pytest.raises(OSError, match=f"partition {failing}"):
                for partition in range(4):
                    found.take(partition)
                    found.release(partition)
        loads.failing.clear()
        request(found)
        request(found)


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("slots", [1, 2, 3])
@pytest.mark.parametrize("taken", range(5))
@pytest.mark.parametrize("released", [False, True])
def test_request_that_was_given_up_leaves_nothing_behind(
    slots: int, taken: int, released: bool, alone: bool
) -> None:
    """After any number of partitions, in the middle of one or between two."""
    with stream(Loads(), slots, alone=alone) as found:
        for _ in range(3):
            found.begin()
            for partition in range(taken):
                found.take(partition)
                if partition + 1 < taken or released:
                    found.release(partition)
        request(found)
        request(found)


def test_partition_without_weights() -> None:
    sizes = (0, 5, 0)
    with stream(Loads(), 2, sizes=sizes) as found:
        request(found, sizes)
        request(found, sizes)


def test_close_ends_the_loader() -> None:
    before = threading.active_count()
    with stream(Loads(), 2) as found:
        request(found)
        assert threading.active_count() == before + 1
    assert threading.active_count() == before


def test_small_weights_are_loaded_by_whoever_takes_them() -> None:
    threads: dict[int, str] = {}
    is_ahead = threading.Event()

    def start(partition: int, into: Buffer) -> Load:
        def fill() -> None:
            threads[partition] = threading.current_thread().name
            if into.nbytes >= HAND_OVER_BYTES:
                is_ahead.set()

        return Load(OnePiece(fill))

    found = WeightStream(Schedule(frozenset(), 2, HAND_OVER_BYTES, 0), [10, HAND_OVER_BYTES], start)
    try:
        found.begin()
        assert is_ahead.wait(WATCHDOG_S)
        assert list(threads) == [1]
        found.take(0)
        assert threads[0] == threading.current_thread().name != threads[1]
    finally:
        found.close()


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("slots", [1, 2, 3])
@pytest.mark.parametrize("pinned", [(), (0,), (1, 2), (3,)])
@pytest.mark.parametrize("place", range(1, 4))
def test_goes_on_where_another_request_went_in_between(
    place: int, pinned: tuple[int, ...], slots: int, alone: bool
) -> None:
    with stream(Loads(), slots, pinned, alone=alone) as found:
        for _ in range(2):
            found.begin()
            for partition, size in enumerate(SIZES):
                if partition == place:
                    request(found)
                found.begin(partition)
                assert found.take(partition).buffer.tobytes() == bytes([partition + 1]) * size
                found.release(partition)
        request(found)


def test_going_on_costs_nothing_when_nobody_went_in_between() -> None:
    loads = Loads()
    with stream(loads, 2) as found:
        for partition in range(len(SIZES)):
            found.begin(partition)
            found.take(partition)
            found.release(partition)
        settle(found)
    assert loads.seen == [0, 1, 2, 3, 0, 1]
