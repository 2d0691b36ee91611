"""Decides which weights stay in memory and how many buffers the others stream through.

Pure: sizes and predicted times in, a schedule out. The planner uses it to
predict, the runner to run, so that both mean the same thing.

The runner keeps `pinned` partitions' weights for ever. The others pass, in
order and over and over, through `slots` equal buffers: while one partition
runs, the loader fills the next free slot, past the end of a request with the
first partitions of the next. Who needs weights that aren't complete helps
loading them. One slot means that loading and running alternate.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

MAX_SLOTS: Final = 4
"""More slots only help where a long computation is followed by many short ones."""

LOAD_NS_PER_BYTE: Final = 0.16
"""Reading from the page cache and decrypting in one thread: 6 GB/s, as measured."""

LANES: Final = 2
"""Most threads that work on one load: the loader's, and the one that waits for the weights."""

TWO_THREADS: Final = 1.6
"""How much faster two threads load: memory, not computing, is what they share."""

HAND_OVER_BYTES: Final = 512 * 1024
"""Smaller weights are loaded by whoever needs them: waking the loader takes as long."""

LOAD_OVERHEAD_NS: Final = 60_000
"""Opening a file, deriving a key, waking the loader."""


def lanes(weights_bytes: Iterable[int]) -> int:
    """Gives how many threads load a model's weights.

    Args:
        weights_bytes: of every partition.
    """
    return LANES if max(weights_bytes, default=0) >= HAND_OVER_BYTES else 1


@dataclass(frozen=True, slots=True)
class Stage:
    """What a schedule needs to know of a partition.

    Attributes:
        weights_bytes: size of its weights object.
        working_bytes: boundary tensors and activations while it runs.
        run_ns: predicted time of computing.
    """

    weights_bytes: int
    working_bytes: int
    run_ns: int

    @property
    def load_ns(self) -> int:
        """Predicted time of reading and decrypting its weights."""
        return round(LOAD_OVERHEAD_NS + self.weights_bytes * LOAD_NS_PER_BYTE)

    @property
    def is_handed_over(self) -> bool:
        """Whether the loader's thread takes part in loading."""
        return self.weights_bytes >= HAND_OVER_BYTES

    @property
    def stall_ns(self) -> int:
        """Predicted wait for the weights when nothing of their loading is hidden."""
        return round(self.load_ns / TWO_THREADS) if self.is_handed_over else self.load_ns


class Predicted(Protocol):
    """What is predicted of a partition that runs one planned request."""

    @property
    def boundary_bytes(self) -> int:
        """Tensors that live across its start."""
        ...

    @property
    def activation_bytes(self) -> int:
        """What it allocates while it runs."""
        ...

    @property
    def run_ns(self) -> int:
        """Time of computing."""
        ...


@dataclass(frozen=True, slots=True)
class Schedule:
    """How weights are held.

    Attributes:
        pinned: partitions whose weights stay.
        slots: buffers for the others; 0 when all are pinned.
        slot_bytes: size of each.
        request_ns: predicted time of a request in steady state.
    """

    pinned: frozenset[int]
    slots: int
    slot_bytes: int
    request_ns: int

    def weights_bytes(self, stages: Sequence[Stage]) -> int:
        """Gives the bytes that pinned weights and slots take."""
        return self.slots * self.slot_bytes + sum(stages[i].weights_bytes for i in self.pinned)


def batch_bytes(before_bytes: int, after_bytes: int, inside_bytes: int, requests: int) -> int:
    """Gives the most bytes that a batch's tensors take while one partition runs it.

    Args:
        before_bytes: one request's tensors that live across its start.
        after_bytes: those that live across its end.
        inside_bytes: what it allocates for one request.
        requests: of the batch; while one runs, the others are either before or after it.
    """
    return before_bytes + (requests - 1) * max(before_bytes, after_bytes) + inside_bytes


def make_stages(
    partitions: Sequence[Predicted],
    weights_bytes: Sequence[int],
    answer_bytes: int,
    *,
    requests: int = 1,
    growth: int = 1,
) -> list[Stage]:
    """Describes a model's partitions for a schedule.

    Args:
        partitions: in order.
        weights_bytes: of each.
        answer_bytes: what lives across the end of the last one, for one request.
        requests: of one batch.
        growth: how many times larger than the planned one a request may be.
    """
    after = [*(each.boundary_bytes for each in partitions[1:]), answer_bytes]
    return [
        Stage(
            size,
            batch_bytes(each.boundary_bytes, after_bytes, each.activation_bytes, requests) * growth,
            each.run_ns * requests,
        )
        for each, size, after_bytes in zip(partitions, weights_bytes, after, strict=True)
    ]


def make_schedule(stages: Sequence[Stage], room_bytes: int, *, overlap: bool) -> Schedule | None:
    """Finds the fastest schedule that fits.

    Args:
        stages: the partitions in order.
        room_bytes: what weights and working memory may take together.
        overlap: whether loading may go on while a partition runs (a core is free for it).

    Returns:
        None when not even one slot fits.
    """
    room = room_bytes - max(stage.working_bytes for stage in stages)
    everything = frozenset(range(len(stages)))
    if sum(stage.weights_bytes for stage in stages) <= room:
        return Schedule(everything, 0, 0, sum(stage.run_ns for stage in stages))
    order = _by_stall(stages, overlap=overlap)
    found = [
        Schedule(pinned, slots, slot_bytes, _request_ns(stages, pinned, slots, overlap=overlap))
        for slots in range(1, MAX_SLOTS + 1 if overlap else 2)
        for slot_bytes in sorted({stage.weights_bytes for stage in stages if stage.weights_bytes})
        if (pinned := _pin(stages, order, room, slots, slot_bytes)) is not None
    ]
    return min(found, key=lambda each: (each.request_ns, each.slots), default=None)


def _pin(
    stages: Sequence[Stage], order: Sequence[int], room: int, slots: int, slot_bytes: int
) -> frozenset[int] | None:
    """Pins what doesn't fit a slot, then what stalls most, as far as the room goes."""
    pinned = {i for i, stage in enumerate(stages) if stage.weights_bytes > slot_bytes}
    left = room - slots * slot_bytes - sum(stages[i].weights_bytes for i in pinned)
    if left < 0:
        return None
    for index in order:
        size = stages[index].weights_bytes
        if index not in pinned and size <= left:
            pinned.add(index)
            left -= size
    return frozenset(pinned)


def _by_stall(stages: Sequence[Stage], *, overlap: bool) -> list[int]:
    """Orders partitions by how much their loading exceeds the computing before them, per byte."""

    def stall(index: int) -> float:
        stage = stages[index]
        hidden_ns = stages[index - 1].run_ns if overlap else 0
        return (stage.load_ns - hidden_ns) / max(stage.weights_bytes, 1)

    return sorted(range(len(stages)), key=lambda index: (-stall(index), index))


def _request_ns(
    stages: Sequence[Stage], pinned: frozenset[int], slots: int, *, overlap: bool
) -> int:
    waits = _waits_ns(stages, pinned, slots, overlap=overlap)
    return sum(waits) + sum(stage.run_ns for stage in stages)


def waits_ns(stages: Sequence[Stage], schedule: Schedule, *, overlap: bool) -> list[int]:
    """Predicts how long each partition waits for its weights, in steady state."""
    return _waits_ns(stages, schedule.pinned, schedule.slots, overlap=overlap)


def _waits_ns(
    stages: Sequence[Stage], pinned: frozenset[int], slots: int, *, overlap: bool
) -> list[int]:
    """Plays two requests in a row and gives the waits of the second."""
    clock = loader = 0
    freed = [0] * slots
    waits = [0] * len(stages)
    streamed = 0
    for _ in range(2):
        for index, stage in enumerate(stages):
            if index not in pinned:
                slot = streamed % slots
                waits[index] = stage.stall_ns
                if stage.is_handed_over:
                    # With one slot the loader can't start before the slot's last user is done;
                    # without overlap it gets no time before the weights' turn.
                    loader = (max(loader, freed[slot]) if overlap else clock) + stage.load_ns
                    waits[index] = round(max(0, loader - clock) / TWO_THREADS)
                clock += waits[index]
                loader = min(loader, clock)
                streamed += 1
            clock += stage.run_ns
            if index not in pinned:
                freed[slot] = clock
    return waits
