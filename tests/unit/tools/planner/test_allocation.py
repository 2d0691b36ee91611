"""Which values share a buffer, and what that makes of the allocator's memory."""

from __future__ import annotations

from collections.abc import Sequence

from app.limits import KIB, MIB
from app.tensors import TensorSpec
from tools.planner.allocation import footprints, steps
from tools.planner.liveness import Liveness
from tools.planner.summary import GraphSummary, NodeSummary

SIDE = 256 * KIB


def graph(
    nodes: Sequence[NodeSummary], outputs: Sequence[str], **shapes: tuple[int | str, ...]
) -> Liveness:
    """Values are float32 of SIDE elements, 1 MiB, unless their shape is given."""
    names = {"x", *(name for node in nodes for name in (*node.inputs, *node.outputs))}
    values = {name: TensorSpec(name, "float32", shapes.get(name, (SIDE,))) for name in names}
    return Liveness(GraphSummary(tuple(nodes), values, {}, ("x",), tuple(outputs), {}))


def node(inputs: str, output: str, overwrites: str = "", workspace_bytes: int = 0) -> NodeSummary:
    return NodeSummary(
        output,
        "Op",
        tuple(inputs.split()),
        (output,),
        (),
        overwrites=tuple(overwrites.split()),
        workspace_bytes=workspace_bytes,
    )


def made(live: Liveness) -> list[tuple[str, ...]]:
    return [step.made for step in steps(live, 0, len(live.graph.nodes))]


def test_an_operator_in_place_takes_over_its_input() -> None:
    live = graph([node("x", "a"), node("a", "b", "a"), node("b", "y")], ["y"])
    assert made(live) == [("a",), (), ("y",)]


def test_nobody_takes_over_what_is_read_again() -> None:
    live = graph([node("x", "a"), node("a", "b", "a"), node("a b", "y")], ["y"])
    assert made(live) == [("a",), ("b",), ("y",)]


def test_nobody_takes_over_an_input_of_the_partition_or_an_output() -> None:
    live = graph([node("x", "a", "x"), node("a", "y", "a")], ["a", "y"])
    assert made(live) == [("a",), ("y",)]


def test_a_dead_buffer_is_kept_for_the_next_value_of_its_shape() -> None:
    live = graph(
        [node("x", "a"), node("a", "b"), node("b", "c"), node("c", "y")], ["y"], b=(SIDE, 2)
    )
    assert made(live) == [("a",), ("b",), (), ("y",)]
    freed = [step.freed for step in steps(live, 0, 4)]
    assert freed == [(), (), ("b",), ("a",)], "a lives on as c"


def test_equal_sizes_of_other_shapes_share_nothing() -> None:
    live = graph(
        [node("x", "a"), node("a", "b"), node("b", "c"), node("c", "y")],
        ["y"],
        a=(2, SIDE),
        b=(SIDE,),
        c=(SIDE, 2),
    )
    assert made(live) == [("a",), ("b",), ("c",), ("y",)]


def test_unknown_shapes_share_nothing() -> None:
    shapes = {name: (f"{name}.0",) for name in "abc"}
    live = graph(
        [node("x", "a"), node("a", "b", "a"), node("b", "c", "b"), node("c", "y")], ["y"], **shapes
    )
    assert made(live) == [("a",), ("b",), ("c",), ("y",)]


def test_every_buffer_is_freed_once_or_leaves_the_partition() -> None:
    live = graph(
        [node("x", "a"), node("a", "b", "a"), node("b x", "side"), node("b", "c"), node("c", "y")],
        ["y", "side"],
    )
    found = steps(live, 0, 5)
    buffers = [name for step in found for name in step.made]
    freed = [name for step in found for name in step.freed]
    assert sorted([*freed, "side", "y"]) == sorted(buffers)


def test_a_footprint_has_tensors_workspace_and_a_kept_answer_in_it() -> None:
    live = graph([node("x", "a", workspace_bytes=4 * MIB), node("a", "y")], ["y"])
    [found] = footprints(live, (0, 2))
    assert 6 * MIB <= found <= 7 * MIB


def test_partitions_share_one_allocator() -> None:
    """The second finds its place below what the first touched."""
    live = graph([node("x", "a", workspace_bytes=4 * MIB), node("a", "y")], ["y"])
    first, second = footprints(live, (0, 1, 2))
    assert second < first <= 7 * MIB


def test_lock_step_needs_room_for_all_boundary_tensors() -> None:
    live = graph([node("x", "a"), node("a", "y")], ["y"])
    one, many = (max(footprints(live, (0, 1, 2), requests)) for requests in (1, 8))
    assert many >= one + 7 * MIB
