"""Finds where the branches of a residual network end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tools.graph.build import Network, Operator
from tools.zoo.weights import viewed

LINEAR: Final = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_SUMS: Final = frozenset({"Add", "Sum"})


def branch_ends(network: Network) -> frozenset[str]:
    """Gives the operators whose output a residual network adds to what it skipped.

    Of the two values that are added, the one with more operators on its way is the branch's; the
    other is what was skipped, or a projection of it. A branch counts when it ends in a layer
    that can be scaled: a linear one or a normalisation.
    """
    producers = {name: each for each in network.operators for name in each.outputs}
    depths = _depths(network)
    fixed = {*network.weights, *network.constants, *viewed(network)}
    ends = set()
    for operator in network.operators:
        added = [name for name in operator.inputs if name not in fixed]
        if operator.op_type not in _SUMS or len(added) < 2:
            continue
        end = producers.get(max(added, key=lambda name: depths.get(name, 0)))
        if end is not None and end.op_type in {*LINEAR, "BatchNormalization"}:
            ends.add(end.name)
    return frozenset(ends)


def _depths(network: Network) -> Mapping[str, int]:
    depths: dict[str, int] = {}
    for operator in network.operators:
        depth = 1 + _depth_before(operator, depths)
        depths.update((name, depth) for name in operator.outputs)
    return depths


def _depth_before(operator: Operator, depths: Mapping[str, int]) -> int:
    return max((depths.get(name, 0) for name in operator.inputs), default=0)
