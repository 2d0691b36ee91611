"""How much room a budget leaves for tensors, and whether that is enough."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from app.schedule import batch_bytes
from tools.errors import NoFeasiblePlanError
from tools.planner.cost import session_bytes
from tools.planner.liveness import Liveness
from tools.planner.planner import plan_for_budget
from tools.planner.summary import GraphSummary

_SHARES: Final = (100, 80, 70, 62, 56)
"""Hundredths of the estimated room that are tried: tiles have structures of their own, and what
allocators and kernels take isn't in the estimate."""


_ROOMY: Final = 2
"""Tensors that need no more than a part of what is left always fit, whatever the allocator does."""


def least_budget(summary: GraphSummary, budget_bytes: int, lock_step: int = 1) -> int:
    """Gives a budget that does: the one given when a plan fits it, otherwise what is needed.

    Args:
        summary: the graph.
        budget_bytes: for all memory of the model.
        lock_step: requests of one batch.
    """
    live = Liveness(summary)
    working = max(
        batch_bytes(
            live.crossing_bytes(i),
            live.crossing_bytes(i + 1),
            live.activation_bytes(i, i + 1),
            lock_step,
        )
        for i in range(len(summary.nodes))
    )
    if _ROOMY * working <= _room(live, budget_bytes):
        return budget_bytes
    try:
        plan_for_budget(summary, budget_bytes, objective="partitions", lock_step=lock_step)
    except NoFeasiblePlanError as error:
        return error.required_bytes
    return budget_bytes


def rooms(summary: GraphSummary, budget_bytes: int) -> Iterator[int]:
    """Gives sizes to tile regions for, the largest first: smaller ones compute more anew.

    Args:
        summary: of the graph before it is tiled by rows.
        budget_bytes: for all memory of the model.
    """
    room = _room(Liveness(summary), budget_bytes)
    return (room * share // 100 for share in _SHARES if room > 0)


def _room(live: Liveness, budget_bytes: int) -> int:
    weights = max(live.weights_bytes(*each) for each in live.stretches())
    return budget_bytes - weights - session_bytes(0, len(live.graph.nodes))
