"""Builds the nodes that take one operator's place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import onnx_ir as ir

from app.tensors import Array

_SLICE_BY_INPUTS = 10
"""Opset from which Slice takes its bounds as inputs."""


class StaysWholeError(Exception):
    """An operator can't be tiled; the message is the reason, as the end of a sentence."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What may be tiled and what that does to results. For people and tests.

    Attributes:
        op_type: the operator; with its domain when that isn't ONNX's own.
        what: "weights" or "activations": what is too large.
        axis: what a tile is.
        result: "bit-exact", or the bound on the difference.
    """

    op_type: str
    what: str
    axis: str
    result: str


@dataclass(slots=True)
class Replacement:
    """Collects the nodes that take a node's place, and puts them there.

    Attributes:
        graph: where the node is.
        node: what is replaced.
        opset: the version of ONNX's own operators.
        nodes: what was added so far.
    """

    graph: ir.Graph
    node: ir.Node
    opset: int
    nodes: list[ir.Node] = field(default_factory=list)

    def add(
        self,
        label: str,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        attributes: Mapping[str, object] | None = None,
        domain: str = "",
    ) -> ir.Value:
        """Adds a node with one output; `label` tells it from the others."""
        node = ir.node(
            op_type,
            inputs,
            attributes=dict(attributes or {}),  # type: ignore[arg-type]
            domain=domain,
            name=f"{self.node.name} {label}",
        )
        node.outputs[0].name = f"{self.node.outputs[0].name} {label}"
        self.nodes.append(node)
        return node.outputs[0]

    def slice(self, label: str, value: ir.Value, axis: int, start: int, stop: int) -> ir.Value:
        """Takes [start, stop) of an axis, which isn't negative."""
        node = slice_node(self.graph, self.opset, value, (axis, start, stop))
        node.name = f"{self.node.name} {label}"
        node.outputs[0].name = f"{self.node.outputs[0].name} {label}"
        self.nodes.append(node)
        return node.outputs[0]

    def finish(self, result: ir.Value) -> None:
        """Puts the nodes in the old one's place; its weights go when nobody else reads them."""
        old = self.node.outputs[0]
        take_over(old, result)
        self.graph.insert_before(self.node, self.nodes)
        ir.convenience.replace_all_uses_with(old, result, replace_graph_outputs=True)
        inputs = [value for value in self.node.inputs if value is not None]
        self.graph.remove(self.node, safe=True)
        drop_unused(self.graph, inputs)


def slice_node(graph: ir.Graph, opset: int, value: ir.Value, part: tuple[int, int, int]) -> ir.Node:
    """Makes a node, without a name, that takes a part of a value: axis, start and stop."""
    axis, start, stop = part
    bounds = {"starts": [start], "ends": [stop], "axes": [axis]}
    if opset < _SLICE_BY_INPUTS:
        node = ir.node("Slice", [value], attributes=bounds)
    else:
        numbers = [integers(graph, each) for each in bounds.values()]
        node = ir.node("Slice", [value, *numbers])
    describe(node.outputs[0], value, axis, stop - start)
    return node


def drop_unused(graph: ir.Graph, values: Sequence[ir.Value]) -> None:
    """Removes those of the values that are initializers without a reader."""
    for value in values:
        if not value.uses() and not value.is_graph_output() and value.name in graph.initializers:
            del graph.initializers[value.name or ""]


def take_over(old: ir.Value, new: ir.Value) -> None:
    """Gives a value another one's name, type and shape."""
    new.type, new.shape = old.type, old.shape
    new.name, old.name = old.name, f"{old.name} untiled"


def describe(tile: ir.Value, whole: ir.Value, axis: int, size: int) -> None:
    """Gives a tile the type and shape of the whole, but for its size along an axis."""
    tile.type = whole.type
    if whole.shape is None:
        return
    dims = list(whole.shape)
    dims[axis] = size
    tile.shape = ir.Shape(dims)


def integers(graph: ir.Graph, numbers: Sequence[int]) -> ir.Value:
    """Gives an initializer of int64 numbers; equal ones are one."""
    name = f"integers {' '.join(map(str, numbers))}"
    return initializer(graph, name, np.array(numbers, dtype=np.int64))


def initializer(graph: ir.Graph, name: str, array: Array) -> ir.Value:
    """Gives an initializer; one that is there with the same name and content is shared."""
    shared = graph.initializers.get(name)
    if shared is not None and _holds(shared, array):
        return shared
    while name in graph.initializers:
        name += "_"
    # A part stays a view of its source, which is mapped from a file: it is copied when written.
    tensor = ir.Tensor(array, name=name)
    value = ir.Value(
        name=name, type=ir.TensorType(tensor.dtype), shape=tensor.shape, const_value=tensor
    )
    graph.register_initializer(value)
    return value


def part_of(graph: ir.Graph, source: ir.Value, number: int, array: Array) -> ir.Value:
    """Gives an initializer for a part of another one."""
    return initializer(graph, f"{source.name} tile {number}", array)


def _holds(value: ir.Value, array: Array) -> bool:
    tensor = value.const_value
    if tensor is None or tensor.dtype != ir.DataType.from_numpy(array.dtype):
        return False
    same_shape = tuple(int(size) for size in tensor.shape.numpy()) == array.shape
    return same_shape and tensor.numpy().tobytes() == array.tobytes()


def constant_of(node: ir.Node, index: int) -> ir.TensorProtocol | None:
    """Gives the content of an input that is an initializer."""
    value = input_of(node, index)
    return None if value is None else value.const_value


def input_of(node: ir.Node, index: int) -> ir.Value | None:
    """Gives an input, None when it is absent."""
    return node.inputs[index] if index < len(node.inputs) else None


def shape_of(tensor: ir.TensorProtocol) -> tuple[int, ...]:
    """Gives a tensor's shape as plain numbers."""
    return tuple(int(size) for size in tensor.shape.numpy())


def integer(node: ir.Node, name: str, default: int) -> int:
    """Gives an attribute that is one number."""
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_int()


def even_ranges(size: int, count: int, multiple: int = 1, least: int = 1) -> list[tuple[int, int]]:
    """Cuts [0, size) into about `count` equal widths; the last one has the rest too.

    Args:
        size: of what is cut.
        count: how many ranges there should be.
        multiple: every width but the last is one of this.
        least: smallest width.
    """
    width = max(least, -(-size // max(1, count)) // multiple * multiple, 1)
    starts = list(range(0, size, width))
    if len(starts) > 1 and size - starts[-1] < least:
        starts.pop()
    return list(pairwise([*starts, size]))
