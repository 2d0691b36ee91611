"""Says why a plan cuts where it does, from what would happen otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Final

from tools.planner.liveness import Liveness
from tools.planner.options import Options
from tools.planner.plan import Plan
from tools.sizes import format_size

_LONGEST_NAME: Final = 60
"""Characters of an operator's name; its end says more than its beginning."""


def with_reasons(
    plan: Plan, live: Liveness, options: Options, room_bytes: int, *, overlap: bool
) -> Plan:
    """Writes into each partition why it ends where it does.

    Args:
        plan: made for these options.
        live: the graph.
        options: weighs other ways to cut it.
        room_bytes: the budget without the reader's own memory.
        overlap: whether loading may go on while a partition runs.
    """
    cuts = (0, *(partition.stop for partition in plan.partitions))
    chosen_ns = options.weigh(cuts, room_bytes, overlap=overlap)
    heaviest = max(live.weights_bytes(*each) for each in pairwise(cuts))
    found = ["the model ends here"]
    for place in reversed(range(1, len(cuts) - 1)):
        joined = options.weigh((*cuts[:place], *cuts[place + 1 :]), room_bytes, overlap=overlap)
        found.append(
            f"{_next_operator(live, cuts, place, heaviest)}{_joined(chosen_ns, joined)}; "
            f"{_crossing(live, cuts[place])}"
        )
    return replace(
        plan,
        partitions=tuple(
            replace(partition, why=why)
            for partition, why in zip(plan.partitions, reversed(found), strict=True)
        ),
    )


def with_count(plan: Plan) -> Plan:
    """The same for a plan whose number of partitions was asked for."""
    count = len(plan.partitions)
    asked = f"{count} partitions were asked for, with weights spread evenly"
    return replace(
        plan,
        partitions=tuple(
            replace(each, why=asked if each.index < count - 1 else "the model ends here")
            for each in plan.partitions
        ),
    )


def _next_operator(live: Liveness, cuts: Sequence[int], place: int, heaviest: int) -> str:
    """Whether the buffer for weights leaves no choice."""
    start, stop = cuts[place - 1], cuts[place]
    following = next(
        (cut for cut in range(stop + 1, cuts[place + 1] + 1) if live.may_cut(cut)), None
    )
    if following is None or live.weights_bytes(start, following) <= heaviest:
        return ""
    more = live.weights_bytes(start, following) - live.weights_bytes(start, stop)
    name = live.graph.nodes[stop].name[-_LONGEST_NAME:]
    return (
        f"{format_size(more)} of weights follow in {name!r}, more than the "
        f"buffer of {format_size(heaviest)} has left; "
    )


def _joined(chosen_ns: int | None, joined_ns: int | None) -> str:
    if joined_ns is None:
        return "joined with the next it doesn't fit the budget"
    if chosen_ns is None or joined_ns <= chosen_ns:
        return "joined with the next a request would take as long"
    longer = 100 * (joined_ns - chosen_ns) / chosen_ns
    shown = f"{longer:.1f} %" if longer >= 0.1 else "a little"
    return f"joined with the next a request would take {shown} longer"


def _crossing(live: Liveness, stop: int) -> str:
    here, later = live.crossing_bytes(stop), live.crossing_bytes(stop + 1)
    return f"{format_size(here)} cross here, {format_size(later)} one operator later"
