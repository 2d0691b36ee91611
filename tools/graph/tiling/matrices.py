"""Tiles matrix products whose weights are too large.

By output columns: each sum is still done by one kernel over the whole inner
dimension, in the same order, so results are equal bit for bit. onnxruntime's
kernels work on 16 columns at a time on AVX-512; widths that are multiples of it
keep them from choosing another kernel for the edge.

By the inner dimension, where even the narrowest columns are too large: a tile
adds its products to what the tiles before it summed. The order of rounding
changes, so two results differ by at most `inner_bound`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import onnx_ir as ir

from app.tensors import Array
from tools.graph.tiling.parts import (
    Replacement,
    Rule,
    StaysWholeError,
    constant_of,
    describe,
    even_ranges,
    input_of,
    integer,
    part_of,
    shape_of,
)

TILE_MULTIPLE: Final = 16

PANEL: Final = 128
"""Products that onnxruntime's matrix kernel sums before it adds them to the result."""

_LEAST_DEEP_COLUMNS: Final = 80
"""Of a matrix deeper than a panel; with 64 columns or fewer the kernel takes longer panels, so
that sums are rounded in other places. Found by comparing bits."""

_MOST_OVERSIZE: Final = 3
"""How many times larger than asked the narrowest columns may be before they are cut too: with a
sixth of the budget asked for, half of the budget."""

_OPERATORS: Final = ("FusedGemm", "FusedMatMul", "Gemm", "MatMul")

RULES: Final = tuple(
    rule
    for op_type in _OPERATORS
    for rule in (
        Rule(op_type, "weights", "output columns", "bit-exact"),
        Rule(op_type, "weights", "inner dimension", "2·γ(K)·Σ|x·w|, γ(K) = K·ε/(1 − K·ε)"),
    )
)


def inner_bound(inner: int, magnitude: Array) -> Array:
    """Bounds the difference of two float32 sums of the same products in different order.

    Each is within γ(n)·Σ|x·w| of the exact sum, with n = `inner` + 2 roundings (Higham,
    "Accuracy and Stability of Numerical Algorithms", §3.1), so they are within twice that of
    each other.

    Args:
        inner: number of products.
        magnitude: Σ|x·w| of every result, bias included.
    """
    unit = (inner + 2) * 2.0**-24
    bound: Array = 2 * unit / (1 - unit) * magnitude
    return bound


def tile_matrix(made: Replacement, largest_bytes: int) -> int:
    """Replaces a matrix product by tiles; gives their number.

    Raises:
        StaysWholeError: when it can't be done.
    """
    node = made.node
    weight = _weight(node)
    axis = _column_axis(node)
    shape = shape_of(weight)
    columns, inner = shape[axis], shape[1 - axis]
    least = _LEAST_DEEP_COLUMNS if inner > PANEL else TILE_MULTIPLE
    count = -(-weight.nbytes // largest_bytes)
    ranges = even_ranges(columns, count, TILE_MULTIPLE, least)
    least_bytes = min(least, columns) * weight.nbytes // columns
    depths = [(0, inner)]
    if least_bytes > _MOST_OVERSIZE * largest_bytes:
        depths = even_ranges(inner, -(-least_bytes // largest_bytes), PANEL)
    if len(ranges) * len(depths) < 2:
        raise StaysWholeError(f"{columns} columns of {inner} are the least")
    array = weight.numpy()
    results = []
    for number, (start, stop) in enumerate(ranges):
        part = array[start:stop] if axis == 0 else array[:, start:stop]
        column = _Column(made, number, part, axis, (start, stop))
        results.append(column.whole() if len(depths) == 1 else column.summed(depths))
    joined = results[0]
    if len(results) > 1:
        joined = made.add("joined", "Concat", results, {"axis": _output_axis(node)})
    made.finish(joined)
    return len(ranges) * len(depths)


def _weight(node: ir.Node) -> ir.TensorProtocol:
    weight = constant_of(node, 1)
    if weight is None or len(weight.shape.numpy()) != 2:
        raise StaysWholeError("its weight isn't a constant matrix on the right")
    if integer(node, "transBatchA", 0) or integer(node, "transBatchB", 0):
        raise StaysWholeError("it transposes batches")
    if _has_bias(node):
        bias = constant_of(node, 2)
        if bias is None or len(bias.shape.numpy()) != 1:
            raise StaysWholeError("its bias isn't a constant vector")
    return weight


def _column_axis(node: ir.Node) -> int:
    return 0 if integer(node, "transB", 0) else 1


def _output_axis(node: ir.Node) -> int:
    return 1 if node.op_type in ("Gemm", "FusedGemm") else -1


def _has_bias(node: ir.Node) -> bool:
    return node.op_type in ("Gemm", "FusedGemm") and input_of(node, 2) is not None


class _Column:
    """Some columns of the result."""

    def __init__(
        self,
        made: Replacement,
        number: int,
        weight: Array,
        axis: int,
        columns: tuple[int, int],
    ) -> None:
        self._made, self._number, self._weight, self._axis = made, number, weight, axis
        self._columns = columns

    def whole(self) -> ir.Value:
        """Computes them by one operator."""
        node = self._made.node
        inputs = [node.inputs[0], self._part(self._weight, self._number), *self._bias()]
        label = f"tile {self._number}"
        return self._described(
            self._made.add(label, node.op_type, inputs, node.attributes, node.domain)
        )

    def summed(self, depths: Sequence[tuple[int, int]]) -> ir.Value:
        """Computes them by one operator for each stretch of the inner dimension."""
        bias = self._bias()
        total = bias[0] if bias else None
        for place, depth in enumerate(depths):
            start, stop = depth
            part = self._weight[:, start:stop] if self._axis == 0 else self._weight[start:stop]
            number = self._number * len(depths) + place
            inputs = [self._input(depth), self._part(part, number)]
            last = place == len(depths) - 1
            total = self._add(inputs, total, number, first=place == 0, last=last)
        if total is None:
            raise StaysWholeError("it has no inner dimension")
        return total

    def _add(
        self,
        inputs: Sequence[ir.Value],
        total: ir.Value | None,
        number: int,
        *,
        first: bool,
        last: bool,
    ) -> ir.Value:
        node, label = self._made.node, f"tile {number}"
        if node.op_type in ("Gemm", "FusedGemm"):
            # Only the last one may activate, and only the first one scales the bias.
            op_type, domain = (node.op_type, node.domain) if last else ("Gemm", "")
            keep = node.attributes if last else _plain(node)
            attributes = {**keep} if first else {**keep, "beta": 1.0}
            given = [*inputs] if total is None else [*inputs, total]
            return self._described(self._made.add(label, op_type, given, attributes, domain))
        product = self._made.add(label, node.op_type, inputs, node.attributes, node.domain)
        self._described(product)
        if total is None:
            return product
        return self._described(self._made.add(f"sum {number}", "Add", [total, product]))

    def _input(self, depth: tuple[int, int]) -> ir.Value:
        """Gives a stretch of the input's inner dimension; all columns read the same one."""
        value = self._made.node.inputs[0]
        if value is None or value.shape is None:
            raise StaysWholeError("its input's rank isn't known")
        rank = len(value.shape)
        axis = rank - 2 if integer(self._made.node, "transA", 0) else rank - 1
        return self._made.slice(f"{self._number} input {depth[0]}", value, axis, *depth)

    def _part(self, array: Array, number: int) -> ir.Value:
        source = self._made.node.inputs[1]
        if source is None:
            raise StaysWholeError("it has no weight")
        return part_of(self._made.graph, source, number, array)

    def _bias(self) -> list[ir.Value]:
        node = self._made.node
        bias = input_of(node, 2) if _has_bias(node) else None
        if bias is None or bias.const_value is None:
            return []
        values = bias.const_value.numpy()
        # A bias of one element is added to every column.
        piece = values if values.size == 1 else values[slice(*self._columns)]
        return [part_of(self._made.graph, bias, self._number, np.asarray(piece))]

    def _described(self, value: ir.Value) -> ir.Value:
        start, stop = self._columns
        describe(value, self._made.node.outputs[0], _output_axis(self._made.node), stop - start)
        return value


def _plain(node: ir.Node) -> Mapping[str, object]:
    """Gives the attributes of a FusedGemm that a Gemm has too."""
    known = ("alpha", "beta", "transA", "transB")
    return {name: node.attributes[name] for name in known if name in node.attributes}
