"""Keeps weights in memory: pinned ones for ever, the others through a few slots in turn.

The streamed partitions form an endless sequence: the last of one request is
followed by the first of the next. Load k goes into slot k modulo the number of
slots, as soon as its former content isn't needed any more. Nothing of size is
allocated after construction.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.schedule import Schedule
from app.tensors import aligned_buffer

Buffer = NDArray[np.uint8]
Load = Callable[[int, Buffer], None]
"""Fills a buffer with a partition's authenticated weights, or raises."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """Weights that are ready.

    Attributes:
        buffer: where they lie, valid until `release`.
        load_ns: what reading and decrypting took; 0 when they were there already.
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
        load: reads and decrypts; called in a thread of its own when `overlap`.
        overlap: whether to load ahead while partitions run.
        clock_ns: a monotonic clock in nanoseconds.
    """

    def __init__(
        self,
        schedule: Schedule,
        sizes: Sequence[int],
        load: Load,
        *,
        overlap: bool,
        clock_ns: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self._sizes = sizes
        self._load = load
        self._clock_ns = clock_ns
        self._pinned = {index: aligned_buffer(sizes[index]) for index in sorted(schedule.pinned)}
        self._missing = set(self._pinned)
        self._order = [index for index in range(len(sizes)) if index not in self._pinned]
        self._slots = [aligned_buffer(schedule.slot_bytes) for _ in range(schedule.slots)]
        self._loader = ThreadPoolExecutor(1, "loader") if overlap and self._order else None
        self._pending: deque[Future[int]] = deque()
        self._taken = 0
        self._released = 0

    def begin(self) -> None:
        """Starts a request at the first partition, also after one that was given up halfway."""
        if self._order and (self._taken % len(self._order) or self._taken != self._released):
            wait(self._pending)
            self._pending.clear()
            self._taken = self._released = 0
        self._load_ahead()

    def take(self, partition: int) -> Loaded:
        """Gives a partition's weights; partitions are taken in order.

        Raises:
            Exception: what loading raised. Call `begin` before the next `take`.
        """
        started = self._clock_ns()
        if partition in self._pinned:
            return self._take_pinned(partition, started)
        slot = self._slots[self._taken % len(self._slots)][: self._sizes[partition]]
        self._taken += 1
        future = self._pending.popleft() if self._pending else None
        load_ns = future.result() if future else self._timed_load(partition, slot)
        return Loaded(slot, load_ns, self._clock_ns() - started, slot.nbytes)

    def release(self, partition: int) -> None:
        """Says that a partition has run; its slot is filled with the next one's weights."""
        if partition not in self._pinned:
            self._released += 1
            self._load_ahead()

    def close(self) -> None:
        """Ends the loader's thread."""
        if self._loader is not None:
            self._loader.shutdown(cancel_futures=True)

    def _take_pinned(self, partition: int, started: int) -> Loaded:
        buffer = self._pinned[partition]
        if partition not in self._missing:
            return Loaded(buffer, 0, 0, 0)
        # The loader may be using the reader; it takes one job at a time.
        if self._loader is None:
            load_ns = self._timed_load(partition, buffer)
        else:
            load_ns = self._loader.submit(self._timed_load, partition, buffer).result()
        self._missing.discard(partition)
        return Loaded(buffer, load_ns, self._clock_ns() - started, buffer.nbytes)

    def _load_ahead(self) -> None:
        if self._loader is None:
            return
        while self._taken + len(self._pending) < self._released + len(self._slots):
            number = self._taken + len(self._pending)
            partition = self._order[number % len(self._order)]
            slot = self._slots[number % len(self._slots)][: self._sizes[partition]]
            self._pending.append(self._loader.submit(self._timed_load, partition, slot))

    def _timed_load(self, partition: int, buffer: Buffer) -> int:
        started = self._clock_ns()
        self._load(partition, buffer)
        return self._clock_ns() - started
