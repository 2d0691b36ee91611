"""What the planner believes of time and memory. Only ratios of times matter.

Times are those of cores of a 2024 server CPU; `tools/benchmark.py runner` shows
how far they are off on another machine. Memory is what resident memory grew by;
`tools/partition.py MODEL -o FOLDER --measure` repeats that measurement for any model.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import ceil
from typing import Final

from app.limits import KIB, MIB
from app.schedule import LANES, batch_bytes
from tools.planner.allocation import footprints, fresh_footprint
from tools.planner.liveness import Liveness

OPERATIONS_PER_NS: Final = 150.0
"""Multiplications and additions of a float32 convolution or matrix product per nanosecond."""

BYTES_PER_NS: Final = 10.0
"""Bytes of weights, inputs and outputs that a memory-bound operator moves per nanosecond."""

NODE_NS: Final = 3_000
"""Cost of starting a kernel."""

PARTITION_NS: Final = 60_000
"""Cost of a partition beside its kernels: binding, the call into onnxruntime, bookkeeping."""

ENGINE_BYTES: Final = MIB + 640 * KIB
"""What a process takes once: onnxruntime with its first session, the runner, and what the first
request touches. Measured on the zoo and the sample model: 1.2 to 1.9 MiB."""

LANE_BYTES: Final = 224 * KIB
"""What each thread takes: its stack, with the panels of matrix products in it, and its heap."""

SESSION_BYTES: Final = 40 * KIB
"""A resident structure beside its nodes: DenseNet-121 as one structure and as nine."""

SESSION_NODE_BYTES: Final = 9_000
"""The same for each node: from SqueezeNet's 40 to DenseNet-121's 557 nodes."""

ARENA_FACTOR: Final = 1.15
"""Memory that onnxruntime's allocator takes over what lives at one moment, while cuts are sought;
chosen ones are played through `tools.planner.allocation`."""

ARENA_MARGIN: Final = 1.03
"""What kernels and the C library touch beside the allocator, over what the allocator takes:
VGG-19's and U-Net's large tensors need it, the sample model's small ones don't."""

HOLES_BYTES: Final = 256 * KIB
"""Holes between the allocator's pieces that `ENGINE_BYTES` has room for."""


def thread_bytes(threads: int) -> int:
    """Predicts what threads take: those that compute, or the caller's and the loader's."""
    return LANE_BYTES * max(threads, LANES)


def node_ns(operations: int, moved_bytes: int, threads: int = 1) -> int:
    """Predicts a node's time: computing or memory traffic, whichever takes longer.

    Threads share computing; memory they share already.
    """
    computing_ns = operations / OPERATIONS_PER_NS / threads
    return round(NODE_NS + max(computing_ns, moved_bytes / BYTES_PER_NS))


def session_bytes(start: int, stop: int) -> int:
    """Predicts the size of the resident structure of the nodes [start, stop)."""
    once = ENGINE_BYTES if start == 0 else 0
    return once + SESSION_BYTES + (stop - start) * SESSION_NODE_BYTES


def activation_bytes(live: Liveness, start: int, stop: int) -> int:
    """Predicts what the nodes [start, stop) allocate while they run, whatever the other cuts."""
    return ceil(ARENA_FACTOR * live.activation_bytes(start, stop))


def played_bytes(live: Liveness, cuts: Sequence[int], lock_step: int = 1) -> list[int]:
    """Predicts what each partition allocates, from what the allocator does with these cuts.

    Args:
        live: the graph.
        cuts: node indices, from 0 to the number of nodes.
        lock_step: requests of one batch.

    Returns:
        For each partition what `app.schedule.batch_bytes` has to be given as `inside_bytes`,
        so that it covers the allocator's memory with its holes.
    """
    found = []
    reached = footprints(live, cuts, lock_step)
    for (start, stop), footprint_bytes in zip(pairwise(cuts), reached, strict=True):
        taken = ceil(ARENA_MARGIN * footprint_bytes) + lock_step * live.given_bytes(start)
        before, after = live.crossing_bytes(start), live.crossing_bytes(stop)
        inside = taken - HOLES_BYTES - batch_bytes(before, after, 0, lock_step)
        found.append(max(inside, live.activation_bytes(start, stop)))
    return found


def fresh_bytes(live: Liveness, start: int, stop: int) -> int:
    """Predicts what a partition allocates in a process of its own."""
    return ceil(ARENA_MARGIN * fresh_footprint(live, start, stop))


def node_times(live: Liveness, threads: int = 1) -> list[int]:
    """Predicts every node's time in nanoseconds, computed by so many threads."""
    graph = live.graph
    return [
        node_ns(
            node.operations,
            sum(graph.weight_bytes[name] for name in node.weights)
            + sum(live.size(name) for name in (*node.inputs, *node.outputs)),
            threads,
        )
        for node in graph.nodes
    ]
