"""Puts the operators of a model into another order."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir


def reorder(model: ir.Model, order: Sequence[int]) -> None:
    """Puts the operators into an order that `tools.planner.order` found.

    What an operator computes doesn't depend on its place, so every result stays the same bit for
    bit.

    Args:
        model: normalised; changed in place.
        order: today's positions of all operators, in the new order, which is topological.
    """
    nodes = list(model.graph)
    model.graph.remove(nodes)
    model.graph.extend(nodes[place] for place in order)
