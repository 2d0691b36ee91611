"""What onnxruntime allocates and frees while the partitions run.

Before a session runs, onnxruntime decides which values share a buffer: the
result of an operator that may work in place takes over its input's, another
takes the buffer of a dead value of the same shape, which is kept for it from
the one's death to the other's birth. All else is allocated when its node starts
and freed after its last reader. Rules: onnxruntime's
core/framework/allocation_planner.cc; they were compared with every allocation
of the zoo's partitions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from tools.planner.arena import Arena, Piece
from tools.planner.liveness import Liveness

_ROUNDS = 3
"""Requests one after another; the layout that earlier ones leave behind repeats after two."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one node does to the memory. Buffers have the name of the first value in them.

    Attributes:
        made: buffers allocated for its outputs.
        workspace_bytes: what its kernel takes for the time it runs.
        freed: buffers that nobody in the partition needs after it.
    """

    made: tuple[str, ...]
    workspace_bytes: int
    freed: tuple[str, ...]


@dataclass(slots=True)
class _Sharing:
    """Follows the nodes of one partition and decides which buffer each value lies in.

    Attributes:
        live: the graph.
        kept: values that leave the partition; their buffers are never shared.
        reads: how often each value is still going to be read.
        buffer: where a value lies; values made elsewhere are missing.
        readers: reads to come of all values of a buffer.
        dead: buffers free for values of the same shape, the latest last.
    """

    live: Liveness
    kept: frozenset[str]
    reads: Counter[str]
    buffer: dict[str, str] = field(default_factory=dict)
    readers: Counter[str] = field(default_factory=Counter)
    dead: list[str] = field(default_factory=list)

    def make(self, output: str, overwrites: Sequence[str]) -> str | None:
        """Places a value; gives the name of the buffer that is allocated for it, if one is."""
        found = None if output in self.kept else self._shared(output, overwrites)
        self.buffer[output] = found or output
        self.readers[self.buffer[output]] += self.reads[output]
        return None if found else output

    def _shared(self, output: str, overwrites: Sequence[str]) -> str | None:
        for name in overwrites:
            own = self.buffer.get(name)
            if own is None or own in self.kept or self.readers[own] != 1:
                continue
            if self.live.graph.same_form(name, output):
                return own
        for place in reversed(range(len(self.dead))):
            if self.live.graph.same_form(self.dead[place], output):
                return self.dead.pop(place)
        return None

    def finish(self, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        """Counts a node's reads; buffers without readers become free for others."""
        touched = []
        for name in inputs:
            if name in self.buffer:
                self.readers[self.buffer[name]] -= 1
                touched.append(self.buffer[name])
        touched += [self.buffer[name] for name in outputs]
        self.dead += [
            buffer
            for buffer in dict.fromkeys(touched)
            if self.readers[buffer] == 0 and buffer not in self.kept and buffer not in self.dead
        ]


def steps(live: Liveness, start: int, stop: int) -> list[Step]:
    """Gives what each of the nodes [start, stop) does to the memory."""
    nodes = live.graph.nodes[start:stop]
    sharing = _Sharing(
        live,
        frozenset(live.outputs(start, stop)),
        Counter(name for node in nodes for name in node.inputs),
    )
    made: list[tuple[str, ...]] = []
    last: dict[str, int] = {}
    for index, node in enumerate(nodes):
        new = [
            sharing.make(name, node.overwrites if place == 0 else ())
            for place, name in enumerate(node.outputs)
        ]
        made.append(tuple(name for name in new if name is not None))
        sharing.finish(node.inputs, node.outputs)
        for name in (*node.inputs, *node.outputs):
            if name in sharing.buffer:
                last[sharing.buffer[name]] = index
    freed: list[list[str]] = [[] for _ in nodes]
    for buffer, index in last.items():
        if buffer not in sharing.kept:
            freed[index].append(buffer)
    return [
        Step(new, node.workspace_bytes, tuple(gone))
        for new, node, gone in zip(made, nodes, freed, strict=True)
    ]


def footprints(live: Liveness, cuts: Sequence[int], requests: int = 1) -> list[int]:
    """Predicts how much memory of the allocator each partition needs.

    Boundary tensors and what earlier requests left behind are in it; the model's inputs, which
    their caller owns, aren't. The largest is what the process keeps.

    Args:
        live: the graph.
        cuts: node indices, from 0 to the number of nodes.
        requests: run in lock step.
    """
    played = [
        _Play(live, cuts, requests, held=held).footprints()
        # A caller may keep an answer while the next request runs, or may not.
        for held in (False, True)
    ]
    return [max(each) for each in zip(*played, strict=True)]


def fresh_footprint(live: Liveness, start: int, stop: int) -> int:
    """Predicts the allocator's memory of one partition in a process of its own."""
    play = _Play(live, (start, stop), 1, held=False)
    play.run(steps(live, start, stop), {})
    return play.arena.touched_bytes


@dataclass(slots=True)
class _Play:
    """Plays some rounds of requests through one arena."""

    live: Liveness
    cuts: Sequence[int]
    requests: int
    held: bool
    arena: Arena = field(default_factory=Arena)

    def footprints(self) -> list[int]:
        """Plays all rounds; see the function of this name."""
        stretches = list(pairwise(self.cuts))
        work = [steps(self.live, *each) for each in stretches]
        released = [self.live.released(*each) for each in stretches]
        most = [0] * len(stretches)
        answers: list[Piece] = []
        for _ in range(_ROUNDS):
            batch: list[dict[str, Piece]] = [{} for _ in range(self.requests)]
            for index, stretch in enumerate(work):
                self.arena.mark()
                for values in batch:
                    self.run(stretch, values)
                    self._drop(values, released[index])
                most[index] = max(most[index], self.arena.reached_bytes)
            left = [piece for values in batch for piece in values.values()]
            for piece in answers if self.held else left:
                self.arena.free(piece)
            answers = left
        # What was touched stays: the largest partition has to answer for all of it.
        largest = most.index(max(most))
        most[largest] = max(most[largest], self.arena.touched_bytes)
        return most

    def run(self, stretch: Sequence[Step], values: dict[str, Piece]) -> None:
        """Plays one partition for one request; `values` are the tensors that are live."""
        for step in stretch:
            for name in step.made:
                values[name] = self.arena.allocate(self.live.size(name))
            if step.workspace_bytes:
                self.arena.free(self.arena.allocate(step.workspace_bytes))
            self._drop(values, step.freed)

    def _drop(self, values: dict[str, Piece], names: Sequence[str]) -> None:
        for name in names:
            if name in values:
                self.arena.free(values.pop(name))
