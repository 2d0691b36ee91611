"""Rewrites a Gather from a table that is too large into Gathers from parts of it.

Every part looks up every index, moved to its own rows and held inside them; a
mask then takes each row from the part that has it. Rows are copied, never
computed with, so the result is equal bit for bit. An index outside the table is
held inside it here, where the operator alone would fail.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from app.tensors import Array
from tools.graph.types import infer_types

_LEAST_OPSET = 13
"""From here on Min and Max take int64, and Unsqueeze its axes as an input."""


def tile_tables(model: ir.Model, largest_bytes: int) -> list[tuple[str, int]]:
    """Rewrites every Gather whose table exceeds a size, where that is possible.

    Args:
        model: normalised; changed in place.
        largest_bytes: most bytes of one part.

    Returns:
        The operators' names with the number of their parts.
    """
    found = [
        (node.name or "", _tile(model.graph, node, table, largest_bytes))
        for node in list(model.graph)
        if (table := _table(model, node)) is not None and table.nbytes > largest_bytes
    ]
    if found:
        infer_types(model)
    return found


def _table(model: ir.Model, node: ir.Node) -> ir.TensorProtocol | None:
    """Gives the constant table of a Gather by rows, None for anything else."""
    if node.op_type != "Gather" or node.domain or (node.version or _opset(model)) < _LEAST_OPSET:
        return None
    axis = node.attributes.get("axis")
    if (axis is not None and axis.as_int() != 0) or node.inputs[0] is None:
        return None
    return node.inputs[0].const_value


def _opset(model: ir.Model) -> int:
    return model.graph.opset_imports.get("", 0)


def _tile(graph: ir.Graph, node: ir.Node, table: ir.TensorProtocol, largest_bytes: int) -> int:
    rows = table.numpy()
    height = max(1, largest_bytes // (table.nbytes // len(rows)))
    starts = range(0, len(rows), height)
    parts = _Parts(graph, node)
    index = parts.wrapped_index(len(rows))
    result = parts.looked_up(index, 0, rows[:height])
    for start in starts[1:]:
        part = rows[start : start + height]
        found = parts.looked_up(index, start, part)
        is_here = parts.mask(index, start, rank=rows.ndim - 1)
        result = parts.add("Where", [is_here, found, result])
    _replace(graph, node, result, parts.nodes)
    return len(starts)


@dataclass(slots=True)
class _Parts:
    """Collects the nodes that take a Gather's place."""

    graph: ir.Graph
    node: ir.Node
    nodes: list[ir.Node]
    constants: int

    def __init__(self, graph: ir.Graph, node: ir.Node) -> None:
        self.graph, self.node, self.nodes, self.constants = graph, node, [], 0

    def add(self, op_type: str, inputs: Sequence[ir.Value], **attributes: int) -> ir.Value:
        """Adds a node with one output."""
        name = f"{self.node.name} part {len(self.nodes)}"
        node = ir.node(op_type, inputs, attributes=attributes, name=name)
        node.outputs[0].name = f"{name} {op_type}"
        self.nodes.append(node)
        return node.outputs[0]

    def constant(self, array: Array) -> ir.Value:
        """Adds an initializer."""
        name = f"{self.node.name} constant {self.constants}"
        self.constants += 1
        tensor = ir.Tensor(np.ascontiguousarray(array), name=name)
        value = ir.Value(
            name=name, type=ir.TensorType(tensor.dtype), shape=tensor.shape, const_value=tensor
        )
        self.graph.register_initializer(value)
        return value

    def number(self, value: int) -> ir.Value:
        """Adds an int64 scalar."""
        return self.constant(np.array(value, dtype=np.int64))

    def wrapped_index(self, rows: int) -> ir.Value:
        """Gives the indices as int64 from 0; negative ones count from the end."""
        index = self.node.inputs[1]
        if index is None:
            raise ValueError(f"{self.node.name}: a Gather without indices")
        wide = self.add("Cast", [index], to=ir.DataType.INT64.value)
        from_end = self.add("Add", [wide, self.number(rows)])
        return self.add("Where", [self.add("Less", [wide, self.number(0)]), from_end, wide])

    def looked_up(self, index: ir.Value, start: int, part: Array) -> ir.Value:
        """Looks every index up in one part."""
        moved = self.add("Sub", [index, self.number(start)])
        above = self.add("Max", [moved, self.number(0)])
        inside = self.add("Min", [above, self.number(len(part) - 1)])
        return self.add("Gather", [self.constant(part), inside], axis=0)

    def mask(self, index: ir.Value, start: int, rank: int) -> ir.Value:
        """Says for every index whether it is at or after a part's start, shaped like rows."""
        found = self.add("GreaterOrEqual", [index, self.number(start)])
        axes = np.arange(-rank, 0, dtype=np.int64)
        return self.add("Unsqueeze", [found, self.constant(axes)]) if rank else found


def _replace(graph: ir.Graph, node: ir.Node, result: ir.Value, nodes: Sequence[ir.Node]) -> None:
    old, table = node.outputs[0], node.inputs[0]
    result.type, result.shape = old.type, old.shape
    result.name, old.name = old.name, f"{old.name} untiled"
    graph.insert_before(node, list(nodes))
    ir.convenience.replace_all_uses_with(old, result, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    if table is not None and not table.uses() and table.name in graph.initializers:
        del graph.initializers[table.name or ""]
