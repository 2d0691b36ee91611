"""One graph by hand: a skip connection, a side output, an unused input, a shared weight."""

from __future__ import annotations

from app.tensors import TensorSpec
from tools.planner.summary import GraphSummary, NodeSummary

SIZES = {
    "x": 1,
    "unused": 10,
    "a": 100,
    "b": 1000,
    "side": 200,
    "c": 10_000,
    "y": 100_000,
}
GRAPH = GraphSummary(
    nodes=(
        NodeSummary("n0", "Op", ("x",), ("a",), ("w",)),
        NodeSummary("n1", "Op", ("a",), ("b", "side"), ()),
        NodeSummary("n2", "Op", ("b",), ("c",), ("w", "v")),
        NodeSummary("n3", "Op", ("c", "x"), ("y",), ("v",)),
    ),
    values={name: TensorSpec(name, "uint8", (size,)) for name, size in SIZES.items()},
    weight_bytes={"w": 60, "v": 100},
    inputs=("x", "unused"),
    outputs=("y", "side"),
    dimensions={},
)
