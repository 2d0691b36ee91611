"""What the planner believes of time and memory. Only ratios of times matter.

The figures are those of one core of a 2024 server CPU; `tools/benchmark.py runner`
shows how far they are off on another machine.
"""

from __future__ import annotations

from math import ceil
from typing import Final

from tools.planner.liveness import Liveness

OPERATIONS_PER_NS: Final = 150.0
"""Multiplications and additions of a float32 convolution or matrix product per nanosecond."""

BYTES_PER_NS: Final = 10.0
"""Bytes of weights, inputs and outputs that a memory-bound operator moves per nanosecond."""

NODE_NS: Final = 3_000
"""Cost of starting a kernel."""

PARTITION_NS: Final = 60_000
"""Cost of a partition beside its kernels: binding, the call into onnxruntime, bookkeeping."""

ENGINE_BYTES: Final = 1_000_000
"""What onnxruntime takes once, with the first session."""

SESSION_BYTES: Final = 60_000
"""A resident structure beside its nodes, as measured on sessions of 1 to 560 nodes."""

SESSION_NODE_BYTES: Final = 10_000
"""The same, for each node."""

ARENA_FACTOR: Final = 1.25
"""Memory that onnxruntime's allocator takes for activations, over what lives at one moment."""


def node_ns(operations: int, moved_bytes: int) -> int:
    """Predicts a node's time: computing or memory traffic, whichever takes longer."""
    return round(NODE_NS + max(operations / OPERATIONS_PER_NS, moved_bytes / BYTES_PER_NS))


def session_bytes(start: int, stop: int) -> int:
    """Predicts the size of the resident structure of the nodes [start, stop)."""
    once = ENGINE_BYTES if start == 0 else 0
    return once + SESSION_BYTES + (stop - start) * SESSION_NODE_BYTES


def activation_bytes(live: Liveness, start: int, stop: int) -> int:
    """Predicts what the nodes [start, stop) allocate while they run."""
    return ceil(ARENA_FACTOR * live.activation_bytes(start, stop))


def node_times(live: Liveness) -> list[int]:
    """Predicts every node's time in nanoseconds."""
    graph = live.graph
    return [
        node_ns(
            node.operations,
            sum(graph.weight_bytes[name] for name in node.weights)
            + sum(live.size(name) for name in (*node.inputs, *node.outputs)),
        )
        for node in graph.nodes
    ]
