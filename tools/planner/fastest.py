"""Chooses the cuts that make a request fastest inside a budget.

The time of a request isn't a sum over partitions: loading hides behind
computing, and what is left of the budget keeps weights resident. So the cuts
are found in two steps. For every slot size and number of slots, dynamic
programming finds the cuts that cost least by themselves (a partition's overhead,
the traffic of its boundary tensors) with weights inside the slot and working
memory inside the rest. Each candidate is then played through
`app.schedule`, the same code that the runner follows, and the fastest one wins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Final

from app.limits import KIB
from app.schedule import Stage, batch_bytes, make_schedule
from tools.planner.cost import (
    BYTES_PER_NS,
    PARTITION_NS,
    activation_bytes,
    node_times,
    session_bytes,
)
from tools.planner.cuts import Score, cut, heaviest_stretch_bytes
from tools.planner.fewest import fewest_cuts
from tools.planner.liveness import Liveness

_STEP: Final = 2**0.5
_MOST_SLOTS: Final = 3
_SMALLEST_SLOT: Final = 256 * KIB


def fastest_cuts(
    live: Liveness, room_bytes: int, *, overlap: bool, lock_step: int = 1
) -> tuple[int, ...] | None:
    """Finds the fastest cuts whose predicted peak fits.

    Args:
        live: the graph.
        room_bytes: the budget without the reader's own memory.
        overlap: whether loading may go on while a partition runs.
        lock_step: requests of one batch.

    Returns:
        None when nothing fits.
    """
    times = node_times(live)
    fitting = {
        cuts: time
        for cuts in set(_candidates(live, room_bytes, overlap=overlap))
        if (
            time := _request_ns(live, cuts, times, room_bytes, overlap=overlap, lock_step=lock_step)
        )
        is not None
    }
    return min(fitting, key=lambda cuts: (fitting[cuts], cuts), default=None)


def _candidates(live: Liveness, room_bytes: int, *, overlap: bool) -> Iterator[tuple[int, ...]]:
    for slots in range(1, _MOST_SLOTS + 1 if overlap else 2):
        for slot_bytes in _slot_sizes(live, room_bytes // slots):
            cutting = cut(live, slot_bytes, room_bytes - slots * slot_bytes, _score(live))
            if cutting is not None:
                yield cutting.cuts
    # The slots above are too coarse for the tightest budgets; these cuts fit if any do.
    fewest = fewest_cuts(live, room_bytes)
    if fewest is not None:
        yield fewest


def _request_ns(
    live: Liveness,
    cuts: Sequence[int],
    times: Sequence[int],
    room_bytes: int,
    *,
    overlap: bool,
    lock_step: int,
) -> int | None:
    """Predicts a request's time with given cuts, or None when they don't fit."""
    stages = [
        Stage(
            live.weights_bytes(start, stop),
            batch_bytes(
                live.crossing_bytes(start),
                live.crossing_bytes(stop),
                activation_bytes(live, start, stop),
                lock_step,
            ),
            lock_step * (sum(times[start:stop]) + PARTITION_NS),
        )
        for start, stop in pairwise(cuts)
    ]
    structures = sum(session_bytes(*each) for each in pairwise(cuts))
    schedule = make_schedule(stages, room_bytes - structures, overlap=overlap)
    if schedule is None:
        return None
    traffic = sum(2 * live.crossing_bytes(cut) for cut in cuts) / BYTES_PER_NS
    return round(schedule.request_ns + traffic)


def _score(live: Liveness) -> Callable[[int], Score]:
    """A cut costs its overhead and writing and reading what crosses it."""

    def score(stop: int) -> Score:
        return 0, round(PARTITION_NS + 2 * live.crossing_bytes(stop) / BYTES_PER_NS)

    return score


def _slot_sizes(live: Liveness, most: int) -> Iterator[int]:
    """Gives slot sizes from the heaviest stretch to all weights, geometric; none depend on luck."""
    total = live.weights_bytes(0, len(live.graph.nodes))
    size = float(max(heaviest_stretch_bytes(live), _SMALLEST_SLOT))
    while size < min(total, most):
        yield int(size)
        size *= _STEP
    if total <= most:
        yield total
