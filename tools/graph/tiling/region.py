"""Works out which rows of which values a tile of a region needs.

A region is a stretch of nodes [start, stop). A tile makes some rows of every
value that the region gives to others. Going back from them, each operator says which rows
it needs; that ends at values that are there when the region starts. A value that
was let go before is made again, by as many operators as that takes.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import onnx_ir as ir

from tools.graph.tiling.rows import Form, Rows, form, has_form, size
from tools.planner.liveness import Interval, Liveness

_MOST_NODES: Final = 128
"""Operators of one tile."""

_AXES: Final = ({4: 2, 3: 1, 2: 0, 5: 2}, {3: 2, 4: 1})
"""Which axis is tiled by the output's rank: picture rows and positions; columns and heads."""


class Nodes:
    """A graph's operators as they were before anything is rewritten, by position.

    Attributes:
        live: sizes, and who reads what.
        nodes: the operators.
        outputs: the first output's name of each.
        inputs: the inputs' names of each; "" for weights and absent ones.
        made: by which operator a value is made; -1 for the graph's inputs.
        values: the values by name.
        tileable: whether each operator has a form at all.
    """

    def __init__(self, graph: ir.Graph, live: Liveness) -> None:
        self.live = live
        self.nodes = list(graph)
        self.outputs = [node.outputs[0].name or "" for node in self.nodes]
        self.inputs = [
            tuple(_name(value, graph) if value is not None else "" for value in node.inputs)
            for node in self.nodes
        ]
        self.values = {
            value.name or "": value
            for value in [*graph.inputs, *(v for node in self.nodes for v in node.outputs)]
        }
        self.tileable = [has_form(node) for node in self.nodes]

    def born(self, name: str) -> int:
        """Gives the operator that makes a value; -1 for the graph's inputs."""
        return self.live.intervals[name].born

    def share(self, name: str, rows: Rows) -> float:
        """Gives how much of a value some rows are."""
        return len(rows) / (size(self.values[name], rows.axis) or 1)

    def operations(self, step: Step) -> float:
        """Gives how much a tile's operator computes."""
        share = self.share(self.outputs[step.node], step.rows)
        return self.live.graph.nodes[step.node].operations * share

    def rows_bytes(self, name: str, rows: Rows) -> int:
        """Gives the size of some rows of a value."""
        return round(self.live.size(name) * self.share(name, rows))


def _name(value: ir.Value, graph: ir.Graph) -> str:
    return "" if value.name in graph.initializers else value.name or ""


@dataclass(frozen=True, slots=True)
class Step:
    """One operator of a tile.

    Attributes:
        node: its position in the graph.
        rows: what it makes.
        form: how.
    """

    node: int
    rows: Rows
    form: Form


@dataclass(frozen=True, slots=True)
class Lives:
    """How long values are kept: as long as they are read, but for those that are let go.

    Attributes:
        intervals: from birth to the last reader, counting those that make a value again.
        dropped: values that only the region they are made in can read.
    """

    intervals: Mapping[str, Interval]
    dropped: frozenset[str]

    def holds(self, name: str, start: int) -> bool:
        """Says whether a value is there when the operator at `start` begins."""
        life = self.intervals[name]
        return life.born < start <= life.dies and name not in self.dropped


def given(nodes: Nodes, lives: Lives, start: int, stop: int) -> list[str]:
    """Gives the values that a region makes for others."""
    names = [v.name or "" for node in nodes.nodes[start:stop] for v in node.outputs]
    return [
        name
        for name in names
        if name in lives.intervals
        and name not in lives.dropped
        and lives.intervals[name].dies >= stop
    ]


def axes_of(nodes: Nodes, names: Sequence[str]) -> list[dict[str, int]]:
    """Gives the ways to choose an axis of known size for every value."""
    found = []
    for table in _AXES:
        ranks = {name: len(nodes.values[name].shape or ()) for name in names}
        axes = {name: table[rank] for name, rank in ranks.items() if rank in table}
        known = all(size(nodes.values[name], axis) for name, axis in axes.items())
        if len(axes) == len(names) and known and axes not in found:
            found.append(axes)
    return found


def tile_rows(nodes: Nodes, axes: Mapping[str, int], tile: int, count: int) -> dict[str, Rows]:
    """Gives the rows of each value that one of `count` tiles makes."""
    found = {}
    for name, axis in axes.items():
        whole = size(nodes.values[name], axis) or 0
        found[name] = Rows(axis, whole * tile // count, whole * (tile + 1) // count)
    return found


def steps(nodes: Nodes, lives: Lives, start: int, wanted: Mapping[str, Rows]) -> list[Step] | None:
    """Gives the operators of one tile in order, None when there is no way.

    Args:
        nodes: the graph.
        lives: what is there when the region starts.
        start: the region's first node.
        wanted: the rows that the tile gives.
    """
    needed = dict(wanted)
    waiting = [-nodes.born(name) for name in wanted]
    heapq.heapify(waiting)
    found: dict[int, Step] = {}
    while waiting:
        index = -heapq.heappop(waiting)
        if index in found:
            continue
        if index < 0 or len(found) == _MOST_NODES:
            return None
        rows = needed[nodes.outputs[index]]
        made = form(nodes.nodes[index], rows)
        if made is None:
            return None
        found[index] = Step(index, rows, made)
        for name, need in zip(nodes.inputs[index], made.needs, strict=True):
            if not name or lives.holds(name, start):
                continue
            joined = _joined(needed.get(name), need)
            if joined is None:
                return None
            needed[name] = joined
            heapq.heappush(waiting, -nodes.born(name))
    return [found[index] for index in sorted(found)]


def _joined(before: Rows | None, more: Rows | None) -> Rows | None:
    if more is None or before is None:
        return more
    return before.joined(more)


def peak_bytes(nodes: Nodes, tile: Sequence[Step]) -> int:
    """Gives the most bytes that live at one moment while a tile runs, what it gives included."""
    made = {nodes.outputs[step.node]: step.rows for step in tile}
    last: dict[str, int] = {}
    for place, step in enumerate(tile):
        for name in nodes.inputs[step.node]:
            if name in made:
                last[name] = place
    live, peak = 0, 0
    dying: dict[int, int] = {}
    for name, place in last.items():
        dying[place] = dying.get(place, 0) + nodes.rows_bytes(name, made[name])
    for place, step in enumerate(tile):
        taken = _taken_bytes(nodes, step, made)
        taken += round(
            nodes.live.graph.nodes[step.node].workspace_bytes
            * nodes.share(nodes.outputs[step.node], step.rows)
        )
        live += nodes.rows_bytes(nodes.outputs[step.node], step.rows)
        peak = max(peak, live + taken)
        live -= dying.get(place, 0)
    return peak


def _taken_bytes(nodes: Nodes, step: Step, made: Mapping[str, Rows]) -> int:
    """Gives the size of the slices that a step reads."""
    return sum(
        nodes.rows_bytes(name, need)
        for name, need in zip(nodes.inputs[step.node], step.form.needs, strict=True)
        if name and need is not None and made.get(name) != need
    )
