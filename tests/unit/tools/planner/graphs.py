"""One graph by hand: a skip connection, a side output, an unused input, a shared weight."""

from __future__ import annotations

from collections.abc import Sequence

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


def chain(weights: Sequence[int], value_bytes: int = 1) -> GraphSummary:
    """Nodes one after another with weights of these sizes."""
    names = [f"v{index}" for index in range(len(weights) + 1)]
    return GraphSummary(
        tuple(
            NodeSummary(f"n{i}", "Op", (names[i],), (names[i + 1],), (f"w{i}",))
            for i in range(len(weights))
        ),
        {name: TensorSpec(name, "uint8", ("n", value_bytes)) for name in names},
        {f"w{index}": size for index, size in enumerate(weights)},
        (names[0],),
        (names[-1],),
        {},
    )
