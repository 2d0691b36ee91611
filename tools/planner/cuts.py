"""Chooses the cuts: dynamic programming over the topological order.

The runner keeps one weights buffer as large as the largest partition's
weights, so the peak isn't a sum that each partition decides alone. The outer
loop therefore fixes the buffer's size; the inner one finds, for that size, the
cuts with the fewest partitions and, among those, the fewest boundary bytes.
The sizes tried don't depend on the budget, so a larger budget never needs more
partitions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from app.errors import InputError
from app.limits import KIB, MIB
from app.objects import TAG_BYTES
from tools.errors import NoFeasiblePlanError
from tools.planner.liveness import Liveness, aligned
from tools.planner.plan import Partition, Plan
from tools.planner.summary import GraphSummary

_BUFFER_STEPS_PER_DOUBLING: Final = 2
_Score = tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Cutting:
    score: _Score
    buffer_bytes: int
    cuts: tuple[int, ...]


def plan_for_budget(graph: GraphSummary, budget_bytes: int) -> Plan:
    """Partitions a graph so that its predicted peak stays within a budget.

    Args:
        graph: a checked graph with at least one node.
        budget_bytes: bound on weights, chunk, boundary tensors and activations together.

    Raises:
        NoFeasiblePlanError: when no cuts can do it; names the operator that needs most.
    """
    live = Liveness(graph)
    chunk_bytes = chunk_size(budget_bytes)
    room = budget_bytes - _chunk_reserve(budget_bytes)
    found = [
        cutting
        for buffer_bytes in _buffer_sizes(live)
        if buffer_bytes <= room
        and (cutting := _cut(live, buffer_bytes, room - buffer_bytes)) is not None
    ]
    if not found:
        raise _no_feasible_plan(live, budget_bytes)
    best = min(found, key=lambda cutting: (cutting.score, cutting.buffer_bytes))
    return _plan(live, best.cuts, budget_bytes, chunk_bytes)


def plan_for_count(graph: GraphSummary, count: int) -> Plan:
    """Partitions a graph into an exact number of partitions with weights spread evenly.

    The plan's budget is its own predicted peak.

    Raises:
        InputError: when the graph can't be cut into that many.
    """
    live = Liveness(graph)
    unbounded = sum(live.size(name) for name in live.intervals) + 1
    fitting = [
        cutting
        for buffer_bytes in _buffer_sizes(live)
        if (cutting := _cut(live, buffer_bytes, unbounded)) and cutting.score[0] <= count
    ]
    cuts = list(fitting[0].cuts) if fitting else [0, len(graph.nodes)]
    while len(cuts) - 1 < count:
        cut = _best_extra_cut(live, cuts)
        if cut is None:
            raise InputError(
                f"--partitions {count}: the model has {len(graph.nodes)} operators and can be cut "
                f"into at most {len(cuts) - 1} partitions"
            )
        cuts = sorted([*cuts, cut])
    buffer_bytes = max(live.weights_bytes(a, b) for a, b in pairwise(cuts))
    chunk_bytes = chunk_size(buffer_bytes)
    return _plan(live, cuts, None, chunk_bytes)


def chunk_size(budget_bytes: int) -> int:
    """Gives the encrypted chunk's size: 1 MiB decrypts fastest, a small budget affords less."""
    return 1 << ((_chunk_reserve(budget_bytes) - TAG_BYTES).bit_length() - 1)


def _chunk_reserve(budget_bytes: int) -> int:
    """A chunk and its tag: a 64th of the budget, so that the rest never shrinks as it grows."""
    return max(16 * KIB, min(MIB, budget_bytes // 64)) + TAG_BYTES


def _buffer_sizes(live: Liveness) -> Iterator[int]:
    """Gives the buffer sizes to try: from the heaviest stretch to all weights, geometric."""
    smallest = max(live.weights_bytes(*stretch) for stretch in live.stretches())
    total = live.weights_bytes(0, len(live.graph.nodes))
    size = float(max(smallest, 1))
    while size < total:
        yield int(size)
        size *= 2 ** (1 / _BUFFER_STEPS_PER_DOUBLING)
    yield total


def _cut(live: Liveness, buffer_bytes: int, room_bytes: int) -> _Cutting | None:
    """Finds the best cuts for one buffer size, or None when there are none."""
    count = len(live.graph.nodes)
    best: list[tuple[_Score, int] | None] = [None] * (count + 1)
    best[0] = ((0, 0), 0)
    for start in range(count):
        here = best[start]
        if here is None:
            continue
        for stop in _reachable(live, start, buffer_bytes, room_bytes):
            score = (here[0][0] + 1, here[0][1] + live.crossing_bytes(stop))
            there = best[stop]
            if there is None or score < there[0]:
                best[stop] = (score, start)
    if best[count] is None:
        return None
    return _Cutting(best[count][0], buffer_bytes, _trace(best))  # type: ignore[index]


def _reachable(live: Liveness, start: int, buffer_bytes: int, room_bytes: int) -> Iterator[int]:
    """Gives the ends of all stretches from `start` that fit."""
    seen: set[str] = set()
    weights_bytes = 0
    activation_room = room_bytes - live.crossing_bytes(start)
    for index, inner_bytes in enumerate(live.inner_live_bytes(start), start):
        new = set(live.graph.nodes[index].weights) - seen
        seen |= new
        weights_bytes += sum(aligned(live.graph.weight_bytes[name]) for name in new)
        if weights_bytes > buffer_bytes or inner_bytes > activation_room:
            return
        if live.may_cut(index + 1):
            yield index + 1


def _trace(best: Sequence[tuple[_Score, int] | None]) -> tuple[int, ...]:
    cuts = [len(best) - 1]
    while cuts[-1] != 0:
        step = best[cuts[-1]]
        if step is None:
            raise RuntimeError("a cut without a predecessor")
        cuts.append(step[1])
    return tuple(reversed(cuts))


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


def _plan(live: Liveness, cuts: Sequence[int], budget_bytes: int | None, chunk_bytes: int) -> Plan:
    graph = live.graph
    stretches = list(pairwise(cuts))
    buffer_bytes = max(live.weights_bytes(*stretch) for stretch in stretches)
    partitions = tuple(
        _partition(live, index, start, stop, buffer_bytes + chunk_bytes + TAG_BYTES)
        for index, (start, stop) in enumerate(stretches)
    )
    peak = max(partition.peak_bytes for partition in partitions)
    return Plan(
        model_digest="",
        data_digests=(),
        budget_bytes=peak if budget_bytes is None else budget_bytes,
        chunk_bytes=chunk_bytes,
        dimensions=tuple(sorted(graph.dimensions.items())),
        inputs=tuple(graph.values[name] for name in graph.inputs),
        outputs=tuple(graph.values[name] for name in graph.outputs),
        partitions=partitions,
    )


def _partition(live: Liveness, index: int, start: int, stop: int, fixed_bytes: int) -> Partition:
    graph = live.graph
    activation_bytes = live.activation_bytes(start, stop)
    boundary_bytes = live.crossing_bytes(start)
    return Partition(
        index=index,
        start=start,
        stop=stop,
        first_node=graph.nodes[start].name,
        last_node=graph.nodes[stop - 1].name,
        inputs=tuple(graph.values[name] for name in live.inputs(start, stop)),
        outputs=tuple(graph.values[name] for name in live.outputs(start, stop)),
        release=tuple(live.released(start, stop)),
        weights_bytes=live.weights_bytes(start, stop),
        input_bytes=sum(live.size(name) for name in live.inputs(start, stop)),
        boundary_bytes=boundary_bytes,
        activation_bytes=activation_bytes,
        peak_bytes=fixed_bytes + boundary_bytes + activation_bytes,
    )


def _no_feasible_plan(live: Liveness, budget_bytes: int) -> NoFeasiblePlanError:
    """Names the operator that needs most, and the least budget that would do for the model."""
    stretches = live.stretches()
    around = {
        each: live.crossing_bytes(each[0]) + live.activation_bytes(*each) for each in stretches
    }
    start, stop = max(stretches, key=lambda each: live.weights_bytes(*each) + around[each])
    node = max(range(start, stop), key=lambda index: live.weights_bytes(index, index + 1))
    least = max(live.weights_bytes(*each) for each in stretches) + max(around.values())
    required = least
    # The chunk grows with the budget, far slower than it.
    while (more := least + _chunk_reserve(required)) > required:
        required = more
    return NoFeasiblePlanError(live.graph.nodes[node].name, required, budget_bytes)
