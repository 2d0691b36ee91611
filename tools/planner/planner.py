"""Makes a plan: chooses cuts with one of the objectives and describes the partitions."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from app.cpu import ANY
from app.limits import KIB, MIB
from app.objects import TAG_BYTES
from app.schedule import LANES, Stage, batch_bytes, lanes, make_schedule, make_stages
from tools.errors import NoFeasiblePlanError
from tools.planner.cost import (
    PARTITION_NS,
    fresh_bytes,
    node_times,
    played_bytes,
    session_bytes,
    thread_bytes,
)
from tools.planner.counted import counted_cuts
from tools.planner.isolation import places
from tools.planner.liveness import Liveness
from tools.planner.options import Options
from tools.planner.plan import Partition, Plan
from tools.planner.reasons import with_count, with_reasons
from tools.planner.summary import GraphSummary

OBJECTIVES: Final = ("time", "partitions")

_PAGE_BYTES: Final = 4 * KIB
_LEAST_CHUNK_BYTES: Final = 16 * KIB
_MOST_CHUNK_BYTES: Final = 512 * KIB


def plan_for_budget(
    graph: GraphSummary,
    budget_bytes: int,
    *,
    objective: str = "time",
    overlap: bool = True,
    threads: int = 1,
    lock_step: int = 1,
    isolated: Collection[str] = (),
) -> Plan:
    """Partitions a graph so that its predicted peak stays within a budget.

    Args:
        graph: a checked graph with at least one node.
        budget_bytes: bound on all memory of the model: structures, weights, the reader's chunk,
            boundary tensors and activations.
        objective: "time" for the fastest batch, "partitions" for the fewest partitions.
        overlap: whether a core is free to decrypt while another computes.
        threads: of onnxruntime in one run.
        lock_step: requests of one batch; the boundary tensors of all of them have to fit.
        isolated: names of operators that get a partition of their own.

    Raises:
        NoFeasiblePlanError: when no cuts can do it; names the operator that needs most.
        InputError: when there is no operator of an isolated name.
    """
    live = Liveness(graph.for_threads(threads))
    options = Options(live, threads, lock_step, places(graph, isolated))
    room_bytes = budget_bytes - _scratch_reserve(budget_bytes)
    if objective == "time":
        cuts = options.fastest(room_bytes, overlap=overlap)
    else:
        cuts = options.fewest(room_bytes)
    if cuts is None:
        raise _no_feasible_plan(live, lock_step, options.least_bytes(), budget_bytes)
    chunk_bytes = chunk_size(budget_bytes, _weights(live, cuts))
    plan = _Assembly(live, cuts, chunk_bytes, overlap, threads, lock_step).plan(budget_bytes)
    return with_reasons(plan, live, options, room_bytes, overlap=overlap)


def plan_for_count(
    graph: GraphSummary,
    count: int,
    *,
    overlap: bool = True,
    threads: int = 1,
    lock_step: int = 1,
) -> Plan:
    """Partitions a graph into an exact number of partitions with weights spread evenly.

    The plan's budget is what they need at the least; where a twentieth is enough for it, with room
    for another tenant's request that goes in between.

    Args:
        graph: a checked graph with at least one node.
        count: of partitions.
        overlap: whether a core is free to decrypt while another computes.
        threads: of onnxruntime in one run.
        lock_step: requests of one batch.

    Raises:
        InputError: when the graph can't be cut into that many.
    """
    live = Liveness(graph.for_threads(threads))
    cuts = counted_cuts(live, count)
    without_chunks = _Assembly(live, cuts, 0, overlap, threads, lock_step).plan(None)
    chunk_bytes = chunk_size(without_chunks.budget_bytes, _weights(live, cuts))
    return with_count(_Assembly(live, cuts, chunk_bytes, overlap, threads, lock_step).plan(None))


def chunk_size(budget_bytes: int, weights_bytes: Sequence[int]) -> int:
    """Gives the plaintext bytes of a chunk: as large as a core's cache and the budget allow.

    Every read and every decryption is a moment in which another thread takes the interpreter, so
    the fewer the better.

    Args:
        budget_bytes: bound on all model memory.
        weights_bytes: of every partition.
    """
    share = _scratch_reserve(budget_bytes) // lanes(weights_bytes) - TAG_BYTES
    most = min(_MOST_CHUNK_BYTES, share) // _PAGE_BYTES * _PAGE_BYTES
    largest = max(*weights_bytes, _LEAST_CHUNK_BYTES)
    chunks = -(-largest // most)
    return -(-largest // chunks // _PAGE_BYTES) * _PAGE_BYTES


def _scratch_reserve(budget_bytes: int) -> int:
    """A chunk and its tag for every thread: a 16th, so that the rest never shrinks as it grows."""
    chunks = max(LANES * _LEAST_CHUNK_BYTES, min(LANES * _MOST_CHUNK_BYTES, budget_bytes // 16))
    return chunks + LANES * TAG_BYTES


def _weights(live: Liveness, cuts: Sequence[int]) -> list[int]:
    return [live.weights_bytes(start, stop) for start, stop in pairwise(cuts)]


@dataclass(frozen=True, slots=True)
class _Assembly:
    """Describes the partitions that given cuts make."""

    live: Liveness
    cuts: Sequence[int]
    chunk_bytes: int
    overlap: bool
    threads: int
    lock_step: int = 1

    def plan(self, budget_bytes: int | None) -> Plan:
        graph = self.live.graph
        partitions = self._partitions()
        weights = [each.weights_bytes for each in partitions]
        stages = self._stages(partitions)
        working = max(stage.working_bytes for stage in stages)
        loading = lanes(weights)
        fixed = loading * (self.chunk_bytes + TAG_BYTES)
        fixed += sum(each.session_bytes for each in partitions)
        least = fixed + working + max(weights)
        budget = budget_bytes or least
        schedule = make_schedule(stages, budget - fixed, overlap=self.overlap)
        held = schedule.weights_bytes(stages) if schedule else max(weights)
        return Plan(
            model_digest="",
            data_digests=(),
            optimization="none",
            cpu=ANY,
            tile_bytes=None,
            row_bytes=None,
            budget_bytes=budget,
            peak_bytes=fixed + held + working,
            request_ns=schedule.request_ns if schedule else 0,
            chunk_bytes=self.chunk_bytes,
            threads=self.threads,
            overlap=self.overlap,
            lock_step=self.lock_step,
            dimensions=tuple(sorted(graph.dimensions.items())),
            inputs=tuple(graph.values[name] for name in graph.inputs),
            outputs=tuple(graph.values[name] for name in graph.outputs),
            partitions=partitions,
        )

    def _stages(self, partitions: Sequence[Partition]) -> list[Stage]:
        return make_stages(
            partitions,
            [each.weights_bytes for each in partitions],
            self.live.crossing_bytes(partitions[-1].stop),
            requests=self.lock_step,
        )

    def _partitions(self) -> tuple[Partition, ...]:
        times = node_times(self.live, self.threads)
        inside = played_bytes(self.live, self.cuts, self.lock_step)
        return tuple(
            self._partition(index, start, stop, inside[index], sum(times[start:stop]))
            for index, (start, stop) in enumerate(pairwise(self.cuts))
        )

    def _partition(
        self, index: int, start: int, stop: int, inside_bytes: int, nodes_ns: int
    ) -> Partition:
        live, graph = self.live, self.live.graph
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
            boundary_bytes=live.crossing_bytes(start),
            activation_bytes=inside_bytes,
            workspace_bytes=max(node.workspace_bytes for node in graph.nodes[start:stop]),
            fresh_bytes=fresh_bytes(live, start, stop),
            session_bytes=session_bytes(start, stop) + (0 if index else thread_bytes(self.threads)),
            run_ns=nodes_ns + PARTITION_NS,
        )


def _no_feasible_plan(
    live: Liveness, lock_step: int, least_bytes: int, budget_bytes: int
) -> NoFeasiblePlanError:
    """Names the operator that needs most, and a budget that would do for the model."""
    stretches = live.stretches()
    working = {
        (start, stop): batch_bytes(
            live.crossing_bytes(start),
            live.crossing_bytes(stop),
            live.activation_bytes(start, stop),
            lock_step,
        )
        for start, stop in stretches
    }
    start, stop = max(stretches, key=lambda each: live.weights_bytes(*each) + working[each])
    node = max(range(start, stop), key=lambda index: live.weights_bytes(index, index + 1))
    required = least_bytes
    # The chunk grows with the budget, far slower than it.
    while (more := least_bytes + _scratch_reserve(required)) > required:
        required = _readable(more)
    name = live.graph.nodes[node].name
    return NoFeasiblePlanError(name, required, budget_bytes, live.graph.untiled.get(name, ""))


def _readable(size_bytes: int) -> int:
    """Rounds up to a hundredth of a MiB, so that the figure people read is enough."""
    hundredths = size_bytes * 100 // MIB
    while round(hundredths / 100 * MIB) < size_bytes:
        hundredths += 1
    return round(hundredths / 100 * MIB)
