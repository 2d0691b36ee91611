"""Chooses the order of the operators, before anything is cut.

What is live between two operators has to be kept at a cut and takes memory while a
partition runs; how much it is depends on the order in which branches are walked. Two
figures measure an order: its peak, the most bytes that are live while one operator runs,
and its traffic, the bytes that are live across each place where a cut could be, added up.

An operator that has a path from or to every other one stands at the same place in every
order. Such operators divide the graph into regions, which are ordered one by one: first
the least peak is sought that all regions can keep, then, within it, the least traffic in
each. The search goes over the sets of operators that can have run at a moment. What is
live, and what it costs to go on, depends on the set alone, so of all ways to a set only the
best is followed. Where there are too many sets, only the best are kept and the result is a
good order, not surely the best.

The order of the file wins every tie, and stays where the order found is worse in any of the
two figures. Names decide nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Final, NamedTuple

from tools.planner.liveness import Liveness
from tools.planner.summary import GraphSummary

_MOST_STEPS: Final = 100_000
"""Ways from one set to the next that are tried in one search of a whole graph: 0.2 seconds."""

_STEPS_PER_PLACE: Final = range(40, 2_000)
"""Of them, for each operator to be placed: three branches of ten need fewer than 300."""


_MOST_WAYS: Final = 32
"""Ways to go on from one set: first what the last operator made ready, then by position."""

_LARGEST_REGION: Final = 3_000
"""Operators of a region; larger ones, as of thousands of tiles, stay as they are."""


@dataclass(frozen=True, slots=True)
class Measure:
    """What an order costs.

    Attributes:
        peak_bytes: most bytes that are live while one operator runs.
        traffic_bytes: bytes that live across the places between operators, added up.
    """

    peak_bytes: int
    traffic_bytes: int

    def is_better(self, other: Measure) -> bool:
        """Says whether it is less in one figure and more in none."""
        return (
            self != other
            and self.peak_bytes <= other.peak_bytes
            and self.traffic_bytes <= other.traffic_bytes
        )


def measure(graph: GraphSummary) -> Measure:
    """Measures the order that a graph has."""
    live = Liveness(graph)
    return _measure(live, range(len(graph.nodes)))


def best_order(graph: GraphSummary) -> tuple[int, ...]:
    """Finds an order with a small peak and little traffic.

    Args:
        graph: in any topological order, with at least one operator.

    Returns:
        The positions of the operators in the order to run them: 0, 1, 2, … when nothing better
        than the graph's own order is found.
    """
    live = Liveness(graph)
    own = range(len(graph.nodes))
    regions = [_Region(live, each) for each in _regions(live)]
    if not regions:
        return tuple(own)
    steps = _MOST_STEPS // sum(len(region.place) for region in regions)
    steps = max(_STEPS_PER_PLACE.start, min(_STEPS_PER_PLACE.stop, steps))
    lowest = [region.lowest(steps) for region in regions]
    before = _measure(live, own)
    least = max(_fixed_peak_bytes(live, regions), *(found.peak_bytes for found in lowest))
    for bound_bytes in dict.fromkeys((least, before.peak_bytes)):
        order = list(own)
        for region, low in zip(regions, lowest, strict=True):
            found = region.quietest(steps, bound_bytes) or low
            order[region.place.start : region.place.stop] = found.order
        if measure(reordered(graph, order)).is_better(before):
            return tuple(order)
    return tuple(own)


def reordered(graph: GraphSummary, order: Sequence[int]) -> GraphSummary:
    """Gives the same graph with its operators in another order."""
    return replace(graph, nodes=tuple(graph.nodes[place] for place in order))


def _measure(live: Liveness, places: range) -> Measure:
    return Measure(
        max(live.crossing_bytes(place) + _during_bytes(live, place) for place in places),
        sum(live.crossing_bytes(place) for place in places),
    )


def _made_bytes(live: Liveness, place: int) -> int:
    return sum(live.size(name) for name in live.graph.nodes[place].outputs)


def _during_bytes(live: Liveness, place: int) -> int:
    return _made_bytes(live, place) + live.graph.nodes[place].workspace_bytes


def _fixed_peak_bytes(live: Liveness, regions: Sequence[_Region]) -> int:
    """Gives the peak of the operators that stay where they are."""
    free = {place for region in regions for place in region.place}
    peaks = [_measure(live, range(i, i + 1)) for i in range(len(live.graph.nodes)) if i not in free]
    return max((each.peak_bytes for each in peaks), default=0)


def _regions(live: Liveness) -> Iterator[range]:
    """Gives the places between operators that stand at the same place in every order."""
    start = 0
    for place in [*_settled(_predecessors(live)), len(live.graph.nodes)]:
        region = range(start, place)
        # A value that can't be handed over would forbid more cuts elsewhere.
        if 1 < len(region) <= _LARGEST_REGION and all(
            live.may_cut(cut) for cut in range(start, place + 1)
        ):
            yield region
        start = place + 1


def _predecessors(live: Liveness) -> list[list[int]]:
    """Gives for each operator those that make what it reads."""
    born = [[live.intervals[name].born for name in node.inputs] for node in live.graph.nodes]
    return [[place for place in dict.fromkeys(each) if place >= 0] for each in born]


def _settled(before: Sequence[Sequence[int]]) -> list[int]:
    """Gives the operators with a path from or to every other one; sets are bits of a number."""
    count = len(before)
    above, below = [0] * count, [0] * count
    for place in range(count):
        for other in before[place]:
            above[place] |= above[other] | 1 << other
    for place in reversed(range(count)):
        for other in before[place]:
            below[other] |= below[place] | 1 << place
    return [i for i in range(count) if above[i].bit_count() + below[i].bit_count() == count - 1]


@dataclass(frozen=True, slots=True)
class _Found:
    order: tuple[int, ...]
    peak_bytes: int


class _Moment(NamedTuple):
    """The best way found to a set of operators that have run.

    Attributes:
        score: what is to be small.
        peak_bytes: most bytes that were live on the way.
        traffic_bytes: those between operators, added up.
        live_bytes: those that are live now.
        ready: operators that may run next, as bits.
        opened: those of them that the last operator made ready.
    """

    score: tuple[int, int]
    peak_bytes: int
    traffic_bytes: int
    live_bytes: int
    ready: int
    opened: int

    def ways(self) -> Iterator[int]:
        """Gives the operators to try next."""
        return islice(chain(_places(self.opened), _places(self.ready ^ self.opened)), _MOST_WAYS)


def _places(bits: int) -> Iterator[int]:
    """Gives the places of the ones in a number, the lowest first."""
    while bits:
        lowest = bits & -bits
        yield lowest.bit_length() - 1
        bits ^= lowest


class _Region:
    """Operators that can be ordered without a look at the others.

    Attributes:
        place: their positions in the graph. Inside, operators are counted from 0.
    """

    def __init__(self, live: Liveness, place: range) -> None:
        self.place = place
        self._live_bytes = live.crossing_bytes(place.start)
        self._made = [_made_bytes(live, each) for each in place]
        self._during = [_during_bytes(live, each) for each in place]
        before = _predecessors(live)
        inner = [[o - place.start for o in before[i] if o >= place.start] for i in place]
        self._needs = [sum(1 << other for other in each) for each in inner]
        self._next: list[list[int]] = [[] for _ in place]
        for here, others in enumerate(inner):
            for other in others:
                self._next[other].append(here)
        self._ends = self._find_ends(live)

    def _find_ends(self, live: Liveness) -> list[list[tuple[int, int]]]:
        """Gives for each operator the values that it may be the last to need: users and size."""
        users: dict[str, int] = {}
        for here, place in enumerate(self.place):
            node = live.graph.nodes[place]
            for name in (*node.inputs, *node.outputs):
                if live.intervals[name].dies < self.place.stop:
                    users[name] = users.get(name, 0) | 1 << here
        return [
            [
                (users[name], live.size(name))
                for name in dict.fromkeys((*node.inputs, *node.outputs))
                if name in users
            ]
            for node in live.graph.nodes[self.place.start : self.place.stop]
        ]

    def lowest(self, steps: int) -> _Found:
        """Finds the order with the least peak, and among those one with little traffic.

        Args:
            steps: ways to go on that are tried for each operator to be placed.
        """
        found = self._search(steps, None)
        if found is None:
            raise RuntimeError("a region without an order")
        return found

    def quietest(self, steps: int, bound_bytes: int) -> _Found | None:
        """Finds the order with the least traffic whose peak keeps a bound, None if there is none.

        Args:
            steps: ways to go on that are tried for each operator to be placed.
            bound_bytes: of the peak.
        """
        return self._search(steps, bound_bytes)

    def _search(self, steps: int, bound_bytes: int | None) -> _Found | None:
        ready = sum(1 << here for here, needs in enumerate(self._needs) if not needs)
        moments = {0: _Moment((0, 0), 0, 0, self._live_bytes, ready, 0)}
        ways: list[dict[int, int]] = []
        for _ in self.place:
            moments, way = self._advance(_kept(moments, steps), bound_bytes)
            ways.append(way)
        if not moments:
            return None
        [(reached, last)] = moments.items()
        order = []
        for way in reversed(ways):
            order.append(way[reached])
            reached ^= 1 << order[-1]
        return _Found(tuple(self.place[here] for here in reversed(order)), last.peak_bytes)

    def _advance(
        self, moments: dict[int, _Moment], bound_bytes: int | None
    ) -> tuple[dict[int, _Moment], dict[int, int]]:
        """Lets one more operator run in every way; gives the sets reached and the last to run."""
        found: dict[int, _Moment] = {}
        way: dict[int, int] = {}
        for done, moment in moments.items():
            for here in moment.ways():
                peak = max(moment.peak_bytes, moment.live_bytes + self._during[here])
                if bound_bytes is not None and peak > bound_bytes:
                    continue
                reached = done | 1 << here
                other = found.get(reached)
                traffic = moment.traffic_bytes + moment.live_bytes
                score = (peak, traffic) if bound_bytes is None else (traffic, peak)
                if other is None:
                    found[reached] = self._moment(moment, here, reached, score)
                    way[reached] = here
                elif score < other.score:
                    found[reached] = other._replace(
                        score=score, peak_bytes=peak, traffic_bytes=traffic
                    )
                    way[reached] = here
        return found, way

    def _moment(self, before: _Moment, here: int, reached: int, score: tuple[int, int]) -> _Moment:
        gone = sum(size for users, size in self._ends[here] if users & reached == users)
        opened = sum(
            1 << other
            for other in self._next[here]
            if self._needs[other] & reached == self._needs[other]
        )
        return _Moment(
            score,
            max(before.peak_bytes, before.live_bytes + self._during[here]),
            before.traffic_bytes + before.live_bytes,
            before.live_bytes + self._made[here] - gone,
            (before.ready ^ 1 << here) | opened,
            opened,
        )


def _kept(moments: dict[int, _Moment], steps: int) -> dict[int, _Moment]:
    """Keeps the best, as many as leave so many ways to go on; at least one."""
    kept: dict[int, _Moment] = {}
    for done, moment in sorted(moments.items(), key=lambda each: each[1].score):
        if kept and steps < 0:
            break
        kept[done] = moment
        steps -= min(moment.ready.bit_count(), _MOST_WAYS)
    return kept
