"""Finds the cuts that are worth a look. None of them depends on the budget.

A partition's weights have to fit the buffer that they are read into. So for 1, 2, 3, …
partitions the smallest buffer is sought that so many can do with, and for each of these
buffers, dynamic programming over the order of the operators finds the fewest partitions that
fit it and, among those, the fewest bytes across the cuts: once without regard to working
memory, and again with bounds on it, as it decides in small budgets.

What fits a budget also fits a larger one. As the same cuts are looked at for every budget, a
larger one never needs more partitions and never makes a request slower.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tools.planner.liveness import Liveness, aligned

_DENSE_COUNTS: Final = 16
"""Every number of partitions is looked at up to here, then steps of a 12th."""

_SLACK: Final = 1.05
"""Working memory that is this close to the least possible one isn't made smaller."""

Numbers = NDArray[np.int64]


def candidate_cuts(live: Liveness, lock_step: int = 1) -> list[tuple[int, ...]]:
    """Gives cuts to choose from, each from 0 to the number of nodes, in a fixed order.

    Args:
        live: the graph.
        lock_step: requests of one batch.
    """
    reach = Reach(live, lock_step)
    bounds = [reach.least_buffer(count) for count in _counts(reach.most_partitions)]
    found: dict[tuple[int, ...], None] = {(0, len(live.graph.nodes)): None}
    for buffer_bytes in dict.fromkeys(bounds):
        working_bytes: float = inf
        for room_bytes in reach.rooms:
            if working_bytes <= room_bytes:
                continue
            cuts = reach.cut(buffer_bytes, room_bytes)
            if cuts is None:
                break
            found[cuts] = None
            working_bytes = reach.working_bytes(cuts)
    seams = [cut for cut in live.graph.seams if live.may_cut(cut)]
    return list(dict.fromkeys([*found, *(_merged(cuts, seams) for cuts in found)]))


def _merged(cuts: Sequence[int], more: Sequence[int]) -> tuple[int, ...]:
    return tuple(sorted({*cuts, *more}))


def _counts(most: int) -> Iterator[int]:
    count = 2
    while count <= most:
        yield count
        count += max(1, count // 12) if count >= _DENSE_COUNTS else 1
    if most > 1:
        yield most


@dataclass(frozen=True, slots=True)
class _Row:
    """What partitions from one cut on need, for each cut that they may end at.

    Attributes:
        weights: bytes of weights; never falls.
        working: bytes of boundary tensors and activations.
    """

    weights: Numbers
    working: Numbers


class Reach:
    """Answers how far a partition that starts at a cut may go.

    Attributes:
        rooms: bounds on working memory that are worth a look, the widest first.
        most_partitions: so many, when every legal cut is made.
    """

    def __init__(self, live: Liveness, lock_step: int = 1) -> None:
        self._live = live
        self._lock_step = lock_step
        count = len(live.graph.nodes)
        self._places = np.array(
            [0, *(cut for cut in range(1, count) if live.may_cut(cut)), count], dtype=np.int64
        )
        crossing = [live.crossing_bytes(cut) for cut in range(count)]
        self._crossing = np.array([*crossing, _end_bytes(live)], dtype=np.int64)[self._places]
        self._rows = list(self._fill())
        self.most_partitions = len(self._places) - 1
        self.rooms = self._find_rooms()

    def _fill(self) -> Iterator[_Row]:
        live, count = self._live, len(self._live.graph.nodes)
        during = np.array([_during_bytes(live, i) for i in range(count)], dtype=np.int64)
        own, repeats = _weights(live)
        # Sizes of the values that live across the start, at the place where they die.
        dying = np.zeros(count + 1, dtype=np.int64)
        for name in live.graph.inputs:
            dying[live.intervals[name].dies] += live.size(name)
        place = 0
        for index, start in enumerate(self._places[:-1]):
            for node in live.graph.nodes[place:start]:
                for name in node.outputs:
                    dying[live.intervals[name].dies] += live.size(name)
            place = int(start)
            carried = dying[start:][::-1].cumsum()[::-1][:-1]
            inner = np.maximum.accumulate(during[start:] - carried)
            weights = own[start:].copy()
            here = repeats[repeats[:, 1] >= start]
            np.subtract.at(weights, here[:, 0] - start, here[:, 2])
            stops = self._places[index + 1 :] - 1 - start
            before, after = self._crossing[index], self._crossing[index + 1 :]
            others = (self._lock_step - 1) * np.maximum(before, after)
            yield _Row(weights.cumsum()[stops], inner[stops] + before + others)

    def _find_rooms(self) -> tuple[int, ...]:
        widest = max(int(row.working.max()) for row in self._rows)
        least = max(int(row.working[0]) for row in self._rows)
        if widest <= least * _SLACK:
            return (widest,)
        return tuple(dict.fromkeys((widest, round((widest * least) ** 0.5), least)))

    def least_buffer(self, count: int) -> int:
        """Gives the smallest buffer that so many partitions can do with, whatever else they need.

        Args:
            count: at most `most_partitions`.
        """
        low = max(int(row.weights[0]) for row in self._rows)
        high = int(self._rows[0].weights[-1])
        while low < high:
            middle = (low + high) // 2
            if self._fewest(middle) <= count:
                high = middle
            else:
                low = middle + 1
        return low

    def _fewest(self, buffer_bytes: int) -> int:
        """Counts the partitions when each goes as far as its weights fit."""
        index = count = 0
        while index < self.most_partitions:
            index += int(self._rows[index].weights.searchsorted(buffer_bytes, "right"))
            count += 1
        return count

    def cut(self, buffer_bytes: int, room_bytes: int) -> tuple[int, ...] | None:
        """Finds the fewest partitions and, among those, the fewest bytes across cuts.

        Args:
            buffer_bytes: most weights of one partition.
            room_bytes: most boundary tensors and activations while one partition runs.

        Returns:
            None when there are no such cuts.
        """
        count = len(self._places)
        # A cost of the number of partitions and, far behind it, of the bytes across their ends.
        unit = float(self._crossing.sum()) + 1
        steps = 1 + self._crossing / unit
        best = np.full(count, inf)
        best[0] = 0
        start_of = np.zeros(count, dtype=np.int64)
        for start, row in enumerate(self._rows):
            here = best[start]
            if here == inf:
                continue
            most = int(row.weights.searchsorted(buffer_bytes, "right"))
            ends = slice(start + 1, start + 1 + most)
            costs = here + steps[ends]
            better = costs < best[ends]
            better &= row.working[:most] <= room_bytes
            best[ends][better] = costs[better]
            start_of[ends][better] = start
        if best[-1] == inf:
            return None
        return self._trace(start_of)

    def working_bytes(self, cuts: Sequence[int]) -> int:
        """Gives the most that one of the partitions needs beside its weights."""
        places = np.searchsorted(self._places, cuts)
        return max(
            int(self._rows[start].working[stop - start - 1]) for start, stop in pairwise(places)
        )

    def _trace(self, start_of: Numbers) -> tuple[int, ...]:
        cuts = [len(start_of) - 1]
        while cuts[-1] != 0:
            cuts.append(int(start_of[cuts[-1]]))
        return tuple(int(self._places[cut]) for cut in reversed(cuts))


def _end_bytes(live: Liveness) -> int:
    return sum(live.size(name) for name in dict.fromkeys(live.graph.outputs))


def _during_bytes(live: Liveness, place: int) -> int:
    node = live.graph.nodes[place]
    made = sum(live.size(name) for name in node.outputs)
    return live.crossing_bytes(place) + made + node.workspace_bytes


def _weights(live: Liveness) -> tuple[Numbers, Numbers]:
    """Gives every node's bytes of weights, and rows of node, node that read it before, size."""
    own = np.zeros(len(live.graph.nodes), dtype=np.int64)
    seen: dict[str, int] = {}
    repeats: list[tuple[int, int, int]] = []
    for place, node in enumerate(live.graph.nodes):
        for name in dict.fromkeys(node.weights):
            size = aligned(live.graph.weight_bytes[name])
            own[place] += size
            if name in seen:
                repeats.append((place, seen[name], size))
            seen[name] = place
    return own, np.array(repeats, dtype=np.int64).reshape(-1, 3)
