"""How much a node computes: multiplications and additions, for the planner's time model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import onnx_ir as ir

_ELEMENTWISE = 1
_RECURRENT_AND_OTHERS = 2


def operations(node: ir.Node, elements: Callable[[str], int]) -> int:
    """Estimates the operations of one run.

    Args:
        node: of a normalised model.
        elements: gives the number of elements of a value, 0 when it isn't known.

    Convolutions, matrix products and their fused and blocked forms are counted
    exactly for known sizes; other operators with weights count each weight once
    per row, and the rest one operation per element.
    """
    made = sum(elements(value.name or "") for value in node.outputs if value.name)
    weight = _largest_weight(node)
    if weight is None:
        return made * _ELEMENTWISE
    if node.op_type in ("Conv", "FusedConv", "ConvInteger", "QLinearConv"):
        return 2 * made * prod(weight[1:])
    if node.op_type == "ConvTranspose":
        first = node.inputs[0]
        taken = elements(first.name or "") if first is not None else 0
        return 2 * taken * prod(weight[1:])
    if len(weight) == 2:
        inner = weight[0] * weight[1] // max(1, _columns(node, weight))
        return 2 * made * inner
    return _RECURRENT_AND_OTHERS * prod(weight) + made


def _columns(node: ir.Node, weight: Sequence[int]) -> int:
    """The side of a matrix that becomes the output's last dimension."""
    transposed = node.attributes.get("transB")
    return weight[0] if transposed is not None and transposed.as_int() else weight[-1]


def _largest_weight(node: ir.Node) -> Sequence[int] | None:
    shapes = [
        tuple(int(size) for size in value.const_value.shape.numpy())
        for value in node.inputs
        if value is not None and value.const_value is not None
    ]
    return max(shapes, key=prod, default=None)
