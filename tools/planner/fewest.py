"""Chooses the fewest partitions.

The runner needs a buffer as large as the largest partition's weights, so the
peak isn't a sum that each partition decides alone. The outer loop therefore
fixes the buffer's size; the inner one finds, for that size, the cuts with the
fewest partitions and, among those, the fewest boundary bytes. The sizes tried
don't depend on the budget, so a larger budget never needs more partitions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Final

from app.errors import InputError
from tools.planner.cost import SESSION_BYTES, session_bytes
from tools.planner.cuts import Score, cut, heaviest_stretch_bytes
from tools.planner.liveness import Liveness

_BUFFER_STEPS_PER_DOUBLING: Final = 2


def fewest_cuts(live: Liveness, room_bytes: int) -> tuple[int, ...] | None:
    """Finds the fewest partitions whose structures, weights and working memory fit together.

    Returns:
        None when nothing fits.
    """
    nodes = len(live.graph.nodes)
    count = 1
    while True:
        # Every partition has a structure of its own: more of them leave less room for weights.
        structures = session_bytes(0, nodes) + (count - 1) * SESSION_BYTES
        cuts = _fewest_in(live, room_bytes - structures)
        if cuts is None or len(cuts) - 1 <= count:
            return cuts
        count = len(cuts) - 1


def _fewest_in(live: Liveness, room_bytes: int) -> tuple[int, ...] | None:
    found = [
        cutting
        for buffer_bytes in _buffer_sizes(live)
        if buffer_bytes <= room_bytes
        and (cutting := cut(live, buffer_bytes, room_bytes - buffer_bytes, _counted(live)))
    ]
    best = min(found, key=lambda each: (each.score, each.buffer_bytes), default=None)
    return None if best is None else best.cuts


def counted_cuts(live: Liveness, count: int) -> tuple[int, ...]:
    """Finds exactly so many partitions with weights spread evenly.

    Raises:
        InputError: when the graph can't be cut into that many.
    """
    unbounded = sum(live.size(name) for name in live.intervals) + 1
    fitting = (
        cutting
        for buffer_bytes in _buffer_sizes(live)
        if (cutting := cut(live, buffer_bytes, unbounded, _counted(live)))
        and cutting.score[0] <= count
    )
    first = next(fitting, None)
    cuts = list(first.cuts) if first else [0, len(live.graph.nodes)]
    while len(cuts) - 1 < count:
        extra = _best_extra_cut(live, cuts)
        if extra is None:
            raise InputError(
                f"--partitions {count}: the model has {len(live.graph.nodes)} operators and can "
                f"be cut into at most {len(cuts) - 1} partitions"
            )
        cuts = sorted([*cuts, extra])
    return tuple(cuts)


def _counted(live: Liveness) -> Callable[[int], Score]:
    return lambda stop: (1, live.crossing_bytes(stop))


def _buffer_sizes(live: Liveness) -> Iterator[int]:
    """Gives the buffer sizes to try: from the heaviest stretch to all weights, geometric."""
    smallest = heaviest_stretch_bytes(live)
    total = live.weights_bytes(0, len(live.graph.nodes))
    size = float(max(smallest, 1))
    while size < total:
        yield int(size)
        size *= 2 ** (1 / _BUFFER_STEPS_PER_DOUBLING)
    yield total


def _best_extra_cut(live: Liveness, cuts: Sequence[int]) -> int | None:
    """Gives the cut that halves the heaviest partition that can be cut at all."""
    stretches = sorted(
        pairwise(cuts),
        key=lambda stretch: (-live.weights_bytes(*stretch), stretch),
    )
    for start, stop in stretches:
        options = [cut for cut in range(start + 1, stop) if live.may_cut(cut)]
        if options:
            return min(options, key=lambda cut: _imbalance(live, start, cut, stop))
    return None


def _imbalance(live: Liveness, start: int, cut: int, stop: int) -> tuple[int, int, int]:
    heavier = max(live.weights_bytes(start, cut), live.weights_bytes(cut, stop))
    return heavier, live.crossing_bytes(cut), cut
