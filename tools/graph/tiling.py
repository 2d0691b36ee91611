"""Rewrites an operator that is too large into tiles that each fit.

A tile computes some of the output's columns or channels from the same inputs,
and a Concat puts them together. Each sum is still done by one kernel over the
whole inner dimension, in the same order; widths that are multiples of
`TILE_MULTIPLE` keep onnxruntime from choosing another kernel for the edge. So
the tiled graph's results are equal to the untiled one's, bit for bit.

Source of the multiple: onnxruntime's matrix kernels work on 16 columns at a
time on AVX-512 and its blocked convolutions on blocks of 16 or 8 channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import onnx_ir as ir

from app.tensors import Array

TILE_MULTIPLE: Final = 16

_ONE_PANEL: Final = 128
"""Inner size up to which onnxruntime's matrix kernel sums in one go."""

_LEAST_DEEP_COLUMNS: Final = 80
"""Of a deeper matrix; with 64 columns or fewer the kernel takes longer panels, so that sums are
rounded in other places. Found by comparing bits."""


@dataclass(frozen=True, slots=True)
class Tiling:
    """What was rewritten.

    Attributes:
        node: the operator's name.
        op_type: its type.
        tiles: how many there are now.
    """

    node: str
    op_type: str
    tiles: int


@dataclass(frozen=True, slots=True)
class _Rule:
    """How an operator type is tiled over its outputs.

    Attributes:
        weight_axis: gives the axis of the weight (input 1) that becomes output columns.
        output_axis: where the tiles' outputs are joined.
        last_input: inputs beyond it can't be tiled.
    """

    weight_axis: Callable[[ir.Node], int]
    output_axis: int
    last_input: int


def _gemm_axis(node: ir.Node) -> int:
    transposed = node.attributes.get("transB")
    return 0 if transposed is not None and transposed.as_int() else 1


_RULES: Final[Mapping[str, _Rule]] = {
    "Gemm": _Rule(_gemm_axis, 1, 2),
    "FusedGemm": _Rule(_gemm_axis, 1, 2),
    "MatMul": _Rule(lambda _: 1, -1, 1),
    "Conv": _Rule(lambda _: 0, 1, 2),
    "FusedConv": _Rule(lambda _: 0, 1, 2),
}


def tile_large_nodes(model: ir.Model, largest_bytes: int) -> list[Tiling]:
    """Rewrites every operator whose weights exceed a size, where that is possible.

    Args:
        model: normalised; changed in place.
        largest_bytes: most weights of one operator.

    Returns:
        What was rewritten. Operators that can't be tiled stay as they are.
    """
    found = []
    for node in list(model.graph):
        weight = _weight(node)
        if weight is None or weight.nbytes <= largest_bytes:
            continue
        tiles = _tile(model.graph, node, weight, largest_bytes)
        if tiles:
            found.append(Tiling(node.name or "", node.op_type, tiles))
    return found


def _weight(node: ir.Node) -> ir.TensorProtocol | None:
    if len(node.inputs) < 2 or node.inputs[1] is None:
        return None
    return node.inputs[1].const_value


def _tile(graph: ir.Graph, node: ir.Node, weight: ir.TensorProtocol, largest_bytes: int) -> int:
    """Replaces a node by tiles; gives their number, 0 when it can't be done."""
    rule = _RULES.get(node.op_type)
    if rule is None or not _is_tileable(node, weight, rule):
        return 0
    axis = rule.weight_axis(node)
    shape = tuple(int(size) for size in weight.shape.numpy())
    least = _least_columns(shape, axis)
    ranges = _ranges(shape[axis], weight.nbytes // shape[axis], largest_bytes, least)
    if len(ranges) < 2:
        return 0
    nodes = _tile_nodes(graph, node, weight.numpy(), axis, ranges)
    for tile, (start, stop) in zip(nodes, ranges, strict=True):
        _describe_tile(tile.outputs[0], node.outputs[0], rule.output_axis, stop - start)
    joined = ir.node(
        "Concat",
        [each.outputs[0] for each in nodes],
        attributes={"axis": rule.output_axis},
        name=f"{node.name} joined",
    )
    _take_over(node.outputs[0], joined.outputs[0])
    graph.insert_before(node, [*nodes, joined])
    ir.convenience.replace_all_uses_with(
        node.outputs[0], joined.outputs[0], replace_graph_outputs=True
    )
    old = [value for value in node.inputs[1:] if value is not None]
    graph.remove(node, safe=True)
    for value in old:
        if not value.uses() and value.name in graph.initializers:
            del graph.initializers[value.name or ""]
    return len(nodes)


def _is_tileable(node: ir.Node, weight: ir.TensorProtocol, rule: _Rule) -> bool:
    """Says whether a node is of the plain form that the rule is for."""
    group = node.attributes.get("group")
    if group is not None and group.as_int() != 1:
        return False
    if node.op_type in ("Gemm", "FusedGemm", "MatMul") and len(weight.shape.numpy()) != 2:
        return False
    if any(value is not None for value in node.inputs[rule.last_input + 1 :]):
        return False
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    return bias is None or (
        bias.const_value is not None and len(bias.const_value.shape.numpy()) == 1
    )


def _least_columns(shape: Sequence[int], axis: int) -> int:
    deep_matrix = len(shape) == 2 and shape[1 - axis] > _ONE_PANEL
    return _LEAST_DEEP_COLUMNS if deep_matrix else TILE_MULTIPLE


def _ranges(
    columns: int, column_bytes: int, largest_bytes: int, least: int
) -> list[tuple[int, int]]:
    """Cuts columns into equal widths, multiples of `TILE_MULTIPLE`; the last has the rest too."""
    count = max(1, -(-columns * column_bytes // largest_bytes))
    width = max(least, -(-columns // count) // TILE_MULTIPLE * TILE_MULTIPLE)
    starts = list(range(0, columns, width))
    if len(starts) > 1 and columns - starts[-1] < least:
        starts.pop()
    return list(pairwise([*starts, columns]))


def _tile_nodes(
    graph: ir.Graph, node: ir.Node, weight: Array, axis: int, ranges: Sequence[tuple[int, int]]
) -> list[ir.Node]:
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    columns = weight.shape[axis]
    nodes = []
    for number, (start, stop) in enumerate(ranges):
        part = weight[start:stop] if axis == 0 else weight[:, start:stop]
        inputs = [node.inputs[0], _initializer(graph, node.inputs[1], number, part)]
        if bias is not None and bias.const_value is not None:
            values = bias.const_value.numpy()
            # A bias of one element is added to every column.
            piece = values[start:stop] if values.size == columns else values
            inputs.append(_initializer(graph, bias, number, piece))
        tile = ir.node(
            node.op_type,
            inputs,
            attributes=node.attributes,
            domain=node.domain,
            name=f"{node.name} tile {number}",
        )
        tile.outputs[0].name = f"{node.outputs[0].name} tile {number}"
        nodes.append(tile)
    return nodes


def _initializer(graph: ir.Graph, source: ir.Value | None, number: int, array: Array) -> ir.Value:
    name = f"{source.name if source else 'weight'} tile {number}"
    shared = graph.initializers.get(name)
    if shared is not None and _holds(shared, array):
        return shared
    while name in graph.initializers:
        name += "_"
    tensor = ir.Tensor(np.ascontiguousarray(array), name=name)
    value = ir.Value(
        name=name, type=ir.TensorType(tensor.dtype), shape=tensor.shape, const_value=tensor
    )
    graph.register_initializer(value)
    return value


def _holds(value: ir.Value, array: Array) -> bool:
    tensor = value.const_value
    return tensor is not None and tensor.numpy().tobytes() == array.tobytes()


def _describe_tile(tile: ir.Value, whole: ir.Value, axis: int, columns: int) -> None:
    tile.type = whole.type
    if whole.shape is None:
        return
    dims = list(whole.shape)
    dims[axis] = columns
    tile.shape = ir.Shape(dims)


def _take_over(old: ir.Value, new: ir.Value) -> None:
    new.type, new.shape = old.type, old.shape
    new.name, old.name = old.name, f"{old.name} untiled"
