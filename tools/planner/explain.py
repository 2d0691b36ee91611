"""Takes a plan apart for people: what lies in memory when, and what is waited for."""

from __future__ import annotations

from dataclasses import dataclass

from app.schedule import Schedule, Stage, make_schedule, make_stages, waits_ns
from tools.planner.cost import ENGINE_BYTES, thread_bytes
from tools.planner.plan import Partition, Plan


@dataclass(frozen=True, slots=True)
class Row:
    """One partition at its turn.

    Attributes:
        partition: from the plan.
        is_pinned: whether its weights stay in memory.
        tensors_bytes: boundary tensors that are live when it starts, of the whole batch.
        inside_bytes: what it allocates, its kernels' workspace included.
        peak_bytes: all memory of the model while it runs.
        load_ns: reading and decrypting its weights; 0 when they stay.
        wait_ns: the part of that which doesn't hide behind computing.
        run_ns: computing, for the whole batch.
    """

    partition: Partition
    is_pinned: bool
    tensors_bytes: int
    inside_bytes: int
    peak_bytes: int
    load_ns: int
    wait_ns: int
    run_ns: int


@dataclass(frozen=True, slots=True)
class Explanation:
    """A plan, taken apart.

    Attributes:
        structures_bytes: what is resident beside weights and tensors: sessions, chunks, stacks.
        pinned_bytes: weights that stay.
        slots: buffers that the others pass through.
        slot_bytes: size of each.
        request_ns: predicted time of a batch.
        resident_bytes: weights and structures of the model as one piece.
        rows: in the order of execution.
    """

    structures_bytes: int
    pinned_bytes: int
    slots: int
    slot_bytes: int
    request_ns: int
    resident_bytes: int
    rows: tuple[Row, ...]

    def whole_bytes(self, row: Row) -> int:
        """Predicts the memory of the model as one piece while a partition's nodes run."""
        return self.resident_bytes + row.tensors_bytes + row.inside_bytes


def explain(plan: Plan) -> Explanation:
    """Takes a plan apart.

    What the model as one piece takes beside its tensors is its weights and one structure.
    """
    stages = _stages(plan)
    fixed_bytes = _fixed_bytes(plan)
    schedule = make_schedule(stages, plan.budget_bytes - fixed_bytes, overlap=plan.overlap)
    if schedule is None:
        # A plan that was edited; nothing is loaded ahead and all is waited for.
        schedule = Schedule(frozenset(), 1, max(each.weights_bytes for each in stages), 0)
    waits = waits_ns(stages, schedule, overlap=plan.overlap)
    held_bytes = fixed_bytes + schedule.weights_bytes(stages)
    rows = tuple(
        Row(
            partition=partition,
            is_pinned=partition.index in schedule.pinned,
            tensors_bytes=stage.working_bytes - partition.activation_bytes,
            inside_bytes=partition.activation_bytes,
            peak_bytes=held_bytes + stage.working_bytes,
            load_ns=0 if partition.index in schedule.pinned else stage.load_ns,
            wait_ns=wait_ns,
            run_ns=stage.run_ns,
        )
        for partition, stage, wait_ns in zip(plan.partitions, stages, waits, strict=True)
    )
    return Explanation(
        structures_bytes=fixed_bytes,
        pinned_bytes=sum(stages[index].weights_bytes for index in schedule.pinned),
        slots=schedule.slots,
        slot_bytes=schedule.slot_bytes,
        request_ns=sum(waits) + sum(stage.run_ns for stage in stages),
        resident_bytes=sum(each.session_bytes + each.weights_bytes for each in plan.partitions),
        rows=rows,
    )


def alone_bytes(plan: Plan, partition: Partition) -> int:
    """Predicts how far a process grows that runs one partition; its inputs are there before."""
    first = thread_bytes(plan.threads) + ENGINE_BYTES if partition.index else 0
    structure_bytes = first + partition.session_bytes + plan.scratch_bytes
    return structure_bytes + partition.weights_bytes + partition.fresh_bytes


def _stages(plan: Plan) -> list[Stage]:
    sizes = dict(plan.dimensions)
    answer_bytes = sum(spec.bytes_with(sizes) or 0 for spec in plan.outputs)
    weights = [each.weights_bytes for each in plan.partitions]
    return make_stages(plan.partitions, weights, answer_bytes, requests=plan.lock_step)


def _fixed_bytes(plan: Plan) -> int:
    return plan.scratch_bytes + sum(each.session_bytes for each in plan.partitions)
