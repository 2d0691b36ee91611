"""Chooses what is tiled by rows, so that the tensors that live together fit.

Tiling an operator alone doesn't help where its input and output are too large
together. A region of several operators is tiled as one: its inner tensors never
exist whole. A tensor that is only read much later, as the skips of a U-Net are, may be
let go and made again where it is read.

Regions are chosen by dynamic programming over positions in the graph: least
excess over the room first, then least computing. Tensors are let go one after
another, the largest that is in the way first, until everything fits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from tools.graph.tiling.region import (
    Lives,
    Nodes,
    Step,
    axes_of,
    given,
    peak_bytes,
    steps,
    tile_rows,
)
from tools.graph.tiling.rows import size
from tools.planner.liveness import Interval

_COUNTS: Final = (2, 3, 4, 6, 8, 12, 16, 24, 32)
"""Numbers of tiles that are tried; each tile computes its halo anew, so fewer are better."""

_LONGEST: Final = 48
"""Nodes of a region."""

_MOST_DROPPED: Final = 6
"""Tensors that are let go; each costs a round of the search."""

_NEAR: Final = 8
"""Values that are read within so many nodes aren't let go."""

SLACK: Final = 1.25
"""What onnxruntime's allocator takes over what lives at one moment; the planner knows better."""

_JOINT_SLACK: Final = 1.6
"""The same where a value is put together: pieces made over a long time leave holes."""

_NEVER: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class Region:
    """Nodes [start, stop) that become tiles.

    Attributes:
        start, stop: positions.
        tiles: the operators of each tile, in order.
        axes: along which axis each value that it gives is put together.
    """

    start: int
    stop: int
    tiles: tuple[tuple[Step, ...], ...]
    axes: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """What is tiled.

    Attributes:
        regions: in order, not overlapping.
        peak_bytes: estimated peak of live tensors.
        lives: what is let go.
    """

    regions: tuple[Region, ...]
    peak_bytes: int
    lives: Lives


def choose(nodes: Nodes, room_bytes: int) -> Choice:
    """Finds regions with which the tensors fit, or the best there are.

    Args:
        nodes: the graph.
        room_bytes: for boundary tensors and activations.
    """
    dropped: list[str] = []
    best: Choice | None = None
    while True:
        lives = _lives(nodes, dropped)
        found = _Search(nodes, lives, room_bytes).choice()
        if best is None or found.peak_bytes < best.peak_bytes:
            best = found
        if best.peak_bytes <= room_bytes or len(dropped) == _MOST_DROPPED:
            return best
        following = _in_the_way(nodes, lives, room_bytes)
        if following is None:
            return best
        dropped.append(following)


def _lives(nodes: Nodes, dropped: Sequence[str]) -> Lives:
    """Keeps what is needed to make dropped values again."""
    intervals = dict(nodes.live.intervals)
    for name in dropped:
        reader = intervals[name].dies
        for source in _sources(nodes, name, frozenset(dropped)):
            life = intervals[source]
            intervals[source] = Interval(life.born, max(life.dies, reader))
    return Lives(intervals, frozenset(dropped))


def _sources(nodes: Nodes, name: str, dropped: frozenset[str]) -> set[str]:
    """Gives the graph's inputs that a value is made of, by operators that can be tiled."""
    found, waiting, seen = set(), [name], {name}
    while waiting:
        index = nodes.born(waiting.pop())
        for each in nodes.inputs[index]:
            if not each or each in seen:
                continue
            seen.add(each)
            if nodes.born(each) < 0 or not nodes.tileable[nodes.born(each)]:
                found.add(each)
            else:
                waiting.append(each)
    return found


def _in_the_way(nodes: Nodes, lives: Lives, room_bytes: int) -> str | None:
    """Gives the largest value that lives on over operators for which there is too little room."""
    crossing = _crossing(nodes, lives)
    tight = [
        index
        for index in range(len(nodes.nodes))
        if crossing[index] + _working_bytes(nodes, index) > room_bytes
    ]
    # What is made and read near by is a region's own matter.
    candidates = {
        name: life
        for name, life in lives.intervals.items()
        if name not in lives.dropped
        and 0 <= life.born < life.dies < len(nodes.nodes)
        and nodes.tileable[life.born]
        and all(nodes.tileable[reader] for reader in _readers(nodes, name))
        and any(life.born < index < life.dies for index in tight)
        and life.dies - life.born > _NEAR
    }
    return max(
        candidates,
        key=lambda name: (nodes.live.size(name), -candidates[name].born),
        default=None,
    )


def _readers(nodes: Nodes, name: str) -> Iterator[int]:
    life = nodes.live.intervals[name]
    stop = min(life.dies + 1, len(nodes.nodes))
    return (i for i in range(life.born + 1, stop) if name in nodes.inputs[i])


def _crossing(nodes: Nodes, lives: Lives) -> list[int]:
    change = [0] * (len(nodes.nodes) + 2)
    for name, life in lives.intervals.items():
        if name not in lives.dropped:
            change[life.born + 1] += nodes.live.size(name)
            change[life.dies + 1] -= nodes.live.size(name)
    return list(accumulate(change))


def _working_bytes(nodes: Nodes, index: int) -> int:
    """Estimates what an operator allocates when it runs whole."""
    node = nodes.live.graph.nodes[index]
    made = sum(nodes.live.size(name) for name in node.outputs)
    return round(SLACK * (made + node.workspace_bytes))


@dataclass(frozen=True, slots=True)
class _Cut:
    """A region by its numbers: nodes, tiles, and the axis of each value that it gives."""

    start: int
    stop: int
    count: int
    axes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class _Best:
    """The best way up to a position: peak, computing, where it came from and how."""

    peak_bytes: int
    operations: int
    before: int
    cut: _Cut | None

    def beats(self, other: _Best | None, room_bytes: int) -> bool:
        if other is None:
            return True
        mine, its = max(self.peak_bytes, room_bytes), max(other.peak_bytes, room_bytes)
        return (mine, self.operations) < (its, other.operations)


class _Search:
    def __init__(self, nodes: Nodes, lives: Lives, room_bytes: int) -> None:
        self._nodes, self._lives, self._room = nodes, lives, room_bytes
        self._crossing = _crossing(nodes, lives)
        self._plain = [
            self._crossing[i] + _working_bytes(nodes, i) for i in range(len(nodes.nodes))
        ]
        self._again = [self._reads_dropped(i) for i in range(len(nodes.nodes))]
        self._refused: set[tuple[int, int]] = set()

    def _reads_dropped(self, index: int) -> bool:
        return any(name in self._lives.dropped for name in self._nodes.inputs[index] if name)

    def choice(self) -> Choice:
        """Finds the best regions; one whose outer tiles can't be made is left out."""
        while True:
            best = self._played()
            last = best[-1]
            if last is None:  # a value was let go that nobody can make again
                return Choice((), _NEVER, self._lives)
            chosen = [self._whole(each) for each in _traced(best)]
            regions = tuple(region for region in chosen if region is not None)
            if len(regions) == len(chosen):
                return Choice(regions, last.peak_bytes, self._lives)

    def _played(self) -> list[_Best | None]:
        count = len(self._nodes.nodes)
        best: list[_Best | None] = [None] * (count + 1)
        best[0] = _Best(0, 0, 0, None)
        for start in range(count):
            here = best[start]
            if here is None:
                continue
            for stop, way in self._ways(start):
                total = _Best(
                    max(here.peak_bytes, way.peak_bytes),
                    here.operations + way.operations,
                    start,
                    way.cut,
                )
                if total.beats(best[stop], self._room):
                    best[stop] = total
        return best

    def _ways(self, start: int) -> Iterator[tuple[int, _Best]]:
        """Gives what may come next: the operator as it is, or a region that begins with it."""
        if not self._again[start]:
            operations = self._nodes.live.graph.nodes[start].operations
            yield start + 1, _Best(self._plain[start], operations, start, None)
        if self._crossing[start] > self._room:
            return
        tight = False
        for stop in range(start + 1, min(len(self._plain), start + _LONGEST) + 1):
            if not self._nodes.tileable[stop - 1]:
                return
            tight = tight or self._plain[stop - 1] > self._room or self._again[stop - 1]
            if tight and (start, stop) not in self._refused:
                found = self._region(start, stop)
                if found is not None:
                    yield stop, found

    def _region(self, start: int, stop: int) -> _Best | None:
        """Gives a region in as few tiles as fit, None when none do."""
        nodes = self._nodes
        names = given(nodes, self._lives, start, stop)
        sizes = [nodes.live.size(name) for name in names]
        # A value that is put together lies beside its pieces.
        joint = self._crossing[stop] + round(_JOINT_SLACK * max(sizes, default=0))
        left = self._room - self._crossing[start] - sum(sizes)
        if not names or joint > self._room or left <= 0:
            return None
        for axes in axes_of(nodes, names):
            least = min(size(nodes.values[name], axis) or 0 for name, axis in axes.items())
            counts = [count for count in _COUNTS if count <= least]
            found = self._fewest(start, axes, counts, left)
            if found is not None:
                count, work, operations = found
                peak = max(joint, self._room - left + work)
                return _Best(peak, operations, start, _Cut(start, stop, count, axes))
        return None

    def _fewest(
        self, start: int, axes: Mapping[str, int], counts: Sequence[int], left: int
    ) -> tuple[int, int, int] | None:
        """Finds the fewest tiles that work in what is left: their number, bytes and computing."""
        least = 0.0
        for count in counts:
            if count < least:
                continue
            found = self._judged(start, axes, count)
            if found is None or found[0] <= left:
                return found and (count, *found)
            # With twice the tiles each is half as large at best, because of the halo.
            least = count * found[0] / left
        return None

    def _judged(self, start: int, axes: Mapping[str, int], count: int) -> tuple[int, int] | None:
        """Gives the bytes of the largest tile and the computing of all, judged by the middle."""
        tiles = [
            steps(self._nodes, self._lives, start, tile_rows(self._nodes, axes, tile, count))
            for tile in (0, count // 2)
        ]
        if tiles[0] is None or tiles[1] is None:
            return None
        work = max(peak_bytes(self._nodes, tile) for tile in tiles if tile is not None)
        operations = sum(round(count * self._nodes.operations(step)) for step in tiles[1])
        return round(SLACK * work), operations

    def _whole(self, cut: _Cut) -> Region | None:
        tiles = []
        for tile in range(cut.count):
            wanted = tile_rows(self._nodes, cut.axes, tile, cut.count)
            found = steps(self._nodes, self._lives, cut.start, wanted)
            if found is None:
                self._refused.add((cut.start, cut.stop))
                return None
            tiles.append(tuple(found))
        return Region(cut.start, cut.stop, tuple(tiles), tuple(cut.axes.items()))


def _traced(best: Sequence[_Best | None]) -> list[_Cut]:
    """Gives the regions on the best way, in order."""
    found: list[_Cut] = []
    place = len(best) - 1
    while place:
        step = best[place]
        if step is None:
            raise RuntimeError("a position without a way to it")
        if step.cut is not None:
            found.insert(0, step.cut)
        place = step.before
    return found
