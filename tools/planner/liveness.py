"""Which values are needed when, and how many bytes that makes.

A value is live from the node that makes it (model inputs: from the start) to
the last node that reads it (model outputs: to the end).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate, islice, pairwise

from tools.planner.summary import GraphSummary

ALIGNMENT = 64
"""Weights start at multiples of this in a weights object: a cache line."""


@dataclass(frozen=True, slots=True)
class Interval:
    """The life of a value.

    Attributes:
        born: index of the node that makes it; -1 for model inputs.
        dies: index of the last node that reads it; the number of nodes for model outputs.
    """

    born: int
    dies: int


class Liveness:
    """Answers the planner's questions about stretches of nodes [start, stop)."""

    def __init__(self, graph: GraphSummary) -> None:
        self.graph = graph
        self.intervals = _intervals(graph)
        self._sizes = {name: graph.value_bytes(name) for name in self.intervals}
        self._crossing_bytes = self._sum_crossings(self._sizes)
        self._obstacles = self._sum_crossings(
            {name: int(not _can_cross(graph, name)) for name in self.intervals}
        )

    def _sum_crossings(self, amounts: Mapping[str, int]) -> list[int]:
        """Adds up, for every cut, the amounts of the values that are live across it."""
        change = [0] * (len(self.graph.nodes) + 2)
        for name, life in self.intervals.items():
            change[life.born + 1] += amounts[name]
            change[life.dies + 1] -= amounts[name]
        return list(accumulate(change))

    def size(self, name: str) -> int:
        """Gives a value's size in bytes."""
        return self._sizes[name]

    def weights(self, start: int, stop: int) -> list[str]:
        """Gives the initializers that a stretch reads, each once, in order of first use."""
        nodes = self.graph.nodes[start:stop]
        return list(dict.fromkeys(name for node in nodes for name in node.weights))

    def weights_bytes(self, start: int, stop: int) -> int:
        """Gives the size of a stretch's weights object."""
        return sum(aligned(self.graph.weight_bytes[name]) for name in self.weights(start, stop))

    def inputs(self, start: int, stop: int) -> list[str]:
        """Gives the values that a stretch reads and didn't make."""
        return [
            name
            for name in dict.fromkeys(
                name for node in self.graph.nodes[start:stop] for name in node.inputs
            )
            if self.intervals[name].born < start
        ]

    def outputs(self, start: int, stop: int) -> list[str]:
        """Gives the values that a stretch makes and somebody after it needs."""
        return [
            name
            for node in self.graph.nodes[start:stop]
            for name in node.outputs
            if self.intervals[name].dies >= stop
        ]

    def released(self, start: int, stop: int) -> list[str]:
        """Gives the boundary values that nobody needs after a stretch."""
        return [
            name for name, life in self.intervals.items() if life.born < start <= life.dies < stop
        ]

    def crossing_bytes(self, cut: int) -> int:
        """Gives the bytes that are live across the cut before node `cut`."""
        return self._crossing_bytes[cut]

    def given_bytes(self, cut: int) -> int:
        """Gives the bytes of the model's inputs that are live across a cut."""
        return sum(
            self._sizes[name]
            for name in self.graph.inputs
            if (cut == 0 or self.intervals[name].dies >= cut)
        )

    def may_cut(self, cut: int) -> bool:
        """Says whether only tensors of known rank cross.

        A sequence can't be handed over, and an ONNX file must state the rank of its inputs.
        """
        return self._obstacles[cut] == 0

    def stretches(self) -> list[tuple[int, int]]:
        """Gives the shortest stretches that the graph can be cut into."""
        count = len(self.graph.nodes)
        cuts = [0, *(cut for cut in range(1, count) if self.may_cut(cut)), count]
        return list(pairwise(cuts))

    def activation_bytes(self, start: int, stop: int) -> int:
        """Gives the most bytes that a stretch makes and that are live at one moment."""
        return max(islice(self.inner_live_bytes(start), stop - start))

    def inner_live_bytes(self, start: int) -> Iterator[int]:
        """Gives, for each node from `start` on, the live bytes that were made since `start`.

        The memory that the node's kernel takes while it runs is in it.
        """
        live = 0
        dying: dict[int, int] = {}
        for index in range(start, len(self.graph.nodes)):
            for name in self.graph.nodes[index].outputs:
                live += self._sizes[name]
                dies = self.intervals[name].dies
                dying[dies] = dying.get(dies, 0) + self._sizes[name]
            yield live + self.graph.nodes[index].workspace_bytes
            live -= dying.pop(index, 0)


def _can_cross(graph: GraphSummary, name: str) -> bool:
    spec = graph.values.get(name)
    return spec is not None and spec.shape is not None


def aligned(size_bytes: int) -> int:
    """Rounds up to the alignment of weights."""
    return -(-size_bytes // ALIGNMENT) * ALIGNMENT


def _intervals(graph: GraphSummary) -> dict[str, Interval]:
    born = dict.fromkeys(graph.inputs, -1)
    # A request brings inputs that nobody reads too; they go after the first node.
    dies = dict.fromkeys(graph.inputs, 0)
    for index, node in enumerate(graph.nodes):
        for name in node.inputs:
            dies[name] = index
        for name in node.outputs:
            born[name] = dies[name] = index
    dies |= dict.fromkeys(graph.outputs, len(graph.nodes))
    return {name: Interval(born[name], dies[name]) for name in born}
