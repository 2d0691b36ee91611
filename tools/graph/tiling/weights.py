"""Rewrites operators with too many weights into tiles that each fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import onnx_ir as ir

from tools.graph.tiling import convolutions, matrices, tables
from tools.graph.tiling.parts import Replacement, StaysWholeError
from tools.graph.types import infer_types

RULES: Final = (*matrices.RULES, *convolutions.RULES, *tables.RULES)

_DOMAINS: Final = ("", "com.microsoft", "com.microsoft.nchwc")

_REWRITES: Final[Mapping[str, Callable[[Replacement, int], int]]] = {
    "Conv": convolutions.tile_convolution,
    "ConvTranspose": convolutions.tile_convolution,
    "FusedConv": convolutions.tile_convolution,
    "FusedGemm": matrices.tile_matrix,
    "FusedMatMul": matrices.tile_matrix,
    "Gather": tables.tile_table,
    "Gemm": matrices.tile_matrix,
    "MatMul": matrices.tile_matrix,
}


@dataclass(frozen=True, slots=True)
class Tiling:
    """What became of an operator that is too large.

    Attributes:
        node: the operator's name.
        op_type: its type.
        tiles: how many there are now; 1 when it stayed whole.
        reason: why it stayed whole, as the end of a sentence; "" when it was tiled.
    """

    node: str
    op_type: str
    tiles: int
    reason: str = ""


def tile_weights(model: ir.Model, largest_bytes: int) -> list[Tiling]:
    """Rewrites every operator whose weights exceed a size, where that is possible.

    Args:
        model: normalised; changed in place.
        largest_bytes: most weights of one operator that are wanted.

    Returns:
        What became of each of them.
    """
    found = [
        _tile(model, node, largest_bytes)
        for node in list(model.graph)
        if _largest_weight_bytes(node) > largest_bytes
    ]
    if any(each.op_type == "Gather" and each.tiles > 1 for each in found):
        infer_types(model)
    return found


def _largest_weight_bytes(node: ir.Node) -> int:
    return max(
        (v.const_value.nbytes for v in node.inputs if v is not None and v.const_value is not None),
        default=0,
    )


def _tile(model: ir.Model, node: ir.Node, largest_bytes: int) -> Tiling:
    name, op_type = node.name or "", node.op_type
    rewrite = _REWRITES.get(op_type) if node.domain in _DOMAINS else None
    if rewrite is None:
        return Tiling(name, op_type, 1, f"no rule tiles the weights of {op_type}")
    opset = node.version or model.graph.opset_imports.get("", 0)
    try:
        tiles = rewrite(Replacement(model.graph, node, opset), largest_bytes)
    except StaysWholeError as error:
        return Tiling(name, op_type, 1, str(error))
    return Tiling(name, op_type, tiles)
