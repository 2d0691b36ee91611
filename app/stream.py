"""Keeps weights in memory: pinned ones for ever, the others through a few slots in turn.

The streamed partitions form an endless sequence: the last of one request is
followed by the first of the next. Load k goes into slot k modulo the number of
slots, as soon as its former content isn't needed any more. A thread of its own
loads ahead; whoever takes weights that aren't complete helps with the rest of
them. Nothing of size is allocated after construction.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.loading import Load
from app.schedule import HAND_OVER_BYTES, Schedule
from app.tensors import aligned_buffer

Buffer = NDArray[np.uint8]
StartLoad = Callable[[int, Buffer], Load]
"""Begins to fill a buffer with a partition's authenticated weights."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """Weights that are ready.

    Attributes:
        buffer: where they lie, valid until `release`.
        load_ns: what reading and decrypting took, all threads' time added up; 0 when they were
            there already.
        wait_ns: how long `take` had to wait for it.
        bytes: what was decrypted.
    """

    buffer: Buffer
    load_ns: int
    wait_ns: int
    bytes: int


class WeightStream:
    """Hands out each partition's weights when its turn comes. Used by one thread.

    Args:
        schedule: what is pinned, how many slots there are.
        sizes: every partition's weights in bytes.
        start: begins a load.
        alone: whether the caller's thread does all loading, as it takes the weights.
        hand_over_bytes: smaller weights are loaded by the caller's thread in any case.
        clock_ns: a monotonic clock in nanoseconds.
    """

    def __init__(
        self,
        schedule: Schedule,
        sizes: Sequence[int],
        start: StartLoad,
        *,
        alone: bool = False,
        hand_over_bytes: int = HAND_OVER_BYTES,
        clock_ns: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self._sizes = sizes
        self._start = start
        self._hand_over_bytes = hand_over_bytes
        self._clock_ns = clock_ns
        self._pinned = {index: aligned_buffer(sizes[index]) for index in sorted(schedule.pinned)}
        self._missing = set(self._pinned)
        self._order = [index for index in range(len(sizes)) if index not in self._pinned]
        self._slots = [aligned_buffer(schedule.slot_bytes) for _ in range(schedule.slots)]
        self._loader = None if alone else ThreadPoolExecutor(1, "loader")
        self._pending: deque[Load] = deque()
        self._taken = 0
        self._released = 0

    def begin(self, partition: int = 0) -> None:
        """Makes a partition the next one to be taken, also after a request that ended halfway.

        Nothing changes when it is the next one anyway; otherwise loads of others are given up.
        """
        place, count = bisect_left(self._order, partition), len(self._order) or 1
        if self._taken != self._released or (self._taken - place) % count:
            while self._pending:
                self._pending.popleft().abandon()
            self._taken = self._released = place
        self._load_ahead()

    def take(self, partition: int) -> Loaded:
        """Gives a partition's weights; partitions are taken in order.

        Raises:
            Exception: what loading raised. Call `begin` before the next `take`.
        """
        started = self._clock_ns()
        if partition in self._pinned:
            return self._take_pinned(partition, started)
        number = self._taken
        self._taken += 1
        load = self._pending.popleft() if self._pending else self._submit(number)
        self._complete(load)
        slot = self._slot(number)
        return Loaded(slot, load.busy_ns, self._clock_ns() - started, slot.nbytes)

    def release(self, partition: int) -> None:
        """Says that a partition has run; its slot is filled with the next one's weights."""
        if partition not in self._pinned:
            self._released += 1
            self._load_ahead()

    def close(self) -> None:
        """Ends the loader's thread and every load that nobody will take."""
        while self._pending:
            self._pending.popleft().abandon()
        if self._loader is not None:
            self._loader.shutdown(cancel_futures=True)

    def _take_pinned(self, partition: int, started: int) -> Loaded:
        buffer = self._pinned[partition]
        if partition not in self._missing:
            return Loaded(buffer, 0, 0, 0)
        load = self._start(partition, buffer)
        self._hand_over(load, buffer)
        self._complete(load)
        self._missing.discard(partition)
        return Loaded(buffer, load.busy_ns, self._clock_ns() - started, buffer.nbytes)

    def _complete(self, load: Load) -> None:
        """Helps with a load until it is complete."""
        load.work()
        load.finish()

    def _load_ahead(self) -> None:
        if self._loader is None:
            return
        while self._taken + len(self._pending) < self._released + len(self._slots):
            self._pending.append(self._submit(self._taken + len(self._pending)))

    def _submit(self, number: int) -> Load:
        load = self._start(self._order[number % len(self._order)], self._slot(number))
        self._hand_over(load, self._slot(number))
        return load

    def _hand_over(self, load: Load, buffer: Buffer) -> None:
        """Lets the loader's thread begin, unless waking it would take as long as the load."""
        if self._loader is not None and buffer.nbytes >= self._hand_over_bytes:
            self._loader.submit(load.work)

    def _slot(self, number: int) -> Buffer:
        """Gives the part of a slot that a load of the endless sequence fills."""
        size = self._sizes[self._order[number % len(self._order)]]
        return self._slots[number % len(self._slots)][:size]
