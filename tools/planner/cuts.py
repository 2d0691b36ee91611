"""Finds cuts by dynamic programming over the topological order.

Weights and working memory of a partition have a bound each; within them the
sum of the partitions' costs is as small as it can be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tools.planner.cost import ARENA_FACTOR
from tools.planner.liveness import Liveness, aligned

Score = tuple[int, int]
"""A cost in two parts; the second decides between equal firsts."""


@dataclass(frozen=True, slots=True)
class Cutting:
    """Cuts that keep their bounds.

    Attributes:
        score: what they cost together.
        buffer_bytes: the bound on weights that they were found for.
        cuts: node indices, from 0 to the number of nodes.
    """

    score: Score
    buffer_bytes: int
    cuts: tuple[int, ...]


def cut(
    live: Liveness, buffer_bytes: int, room_bytes: int, step: Callable[[int], Score]
) -> Cutting | None:
    """Finds the cheapest cuts, or None when there are none.

    Args:
        live: the graph.
        buffer_bytes: most weights of one partition.
        room_bytes: most boundary tensors and activations while one partition runs.
        step: gives the cost of a partition that ends before a node; costs add up.
    """
    count = len(live.graph.nodes)
    best: list[tuple[Score, int] | None] = [None] * (count + 1)
    best[0] = ((0, 0), 0)
    for start in range(count):
        here = best[start]
        if here is None:
            continue
        for stop in _reachable(live, start, buffer_bytes, room_bytes):
            more = step(stop)
            score = (here[0][0] + more[0], here[0][1] + more[1])
            there = best[stop]
            if there is None or score < there[0]:
                best[stop] = (score, start)
    last = best[count]
    return None if last is None else Cutting(last[0], buffer_bytes, _trace(best))


def _reachable(live: Liveness, start: int, buffer_bytes: int, room_bytes: int) -> Iterator[int]:
    """Gives the ends of all stretches from `start` that fit."""
    seen: set[str] = set()
    weights_bytes = 0
    activation_room = room_bytes - live.crossing_bytes(start)
    for index, inner_bytes in enumerate(live.inner_live_bytes(start), start):
        new = set(live.graph.nodes[index].weights) - seen
        seen |= new
        weights_bytes += sum(aligned(live.graph.weight_bytes[name]) for name in new)
        if weights_bytes > buffer_bytes or inner_bytes * ARENA_FACTOR > activation_room:
            return
        if live.may_cut(index + 1):
            yield index + 1


def _trace(best: Sequence[tuple[Score, int] | None]) -> tuple[int, ...]:
    cuts = [len(best) - 1]
    while cuts[-1] != 0:
        step = best[cuts[-1]]
        if step is None:
            raise RuntimeError("a cut without a predecessor")
        cuts.append(step[1])
    return tuple(reversed(cuts))


def heaviest_stretch_bytes(live: Liveness) -> int:
    """Gives the weights of the heaviest stretch that can't be cut further."""
    return max(live.weights_bytes(*stretch) for stretch in live.stretches())
