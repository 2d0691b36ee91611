"""Cuts a graph into an exact number of partitions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from app.errors import InputError
from tools.planner.cuts import Reach
from tools.planner.liveness import Liveness


def counted_cuts(live: Liveness, count: int) -> tuple[int, ...]:
    """Finds exactly so many partitions with weights spread evenly.

    Raises:
        InputError: when the graph can't be cut into that many.
    """
    reach = Reach(live)
    if count > reach.most_partitions:
        raise InputError(
            f"--partitions {count}: the model has {len(live.graph.nodes)} operators and can "
            f"be cut into at most {reach.most_partitions} partitions"
        )
    found = reach.cut(reach.least_buffer(count), reach.rooms[0])
    cuts = list(found) if found else [0, len(live.graph.nodes)]
    while len(cuts) - 1 < count:
        cuts = sorted([*cuts, _best_extra_cut(live, cuts)])
    return tuple(cuts)


def _best_extra_cut(live: Liveness, cuts: Sequence[int]) -> int:
    """Gives the cut that halves the heaviest partition that can be cut at all."""
    stretches = sorted(
        pairwise(cuts),
        key=lambda stretch: (-live.weights_bytes(*stretch), stretch),
    )
    for start, stop in stretches:
        options = [cut for cut in range(start + 1, stop) if live.may_cut(cut)]
        if options:
            return min(options, key=lambda cut: _imbalance(live, start, cut, stop))
    raise RuntimeError("no partition can be cut further")


def _imbalance(live: Liveness, start: int, cut: int, stop: int) -> tuple[int, int, int]:
    heavier = max(live.weights_bytes(start, cut), live.weights_bytes(cut, stop))
    return heavier, live.crossing_bytes(cut), cut
