"""How near a plan with the fewest partitions comes to the fewest that could be.

Two bounds from below are told. Bytes of weights over bytes of budget knows nothing of what
else needs memory. The other one divides by what the budget leaves for weights: without the
reader's chunks, the structures and the working memory that the plan itself needs.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tools.errors import NoFeasiblePlanError
from tools.planner.plan import Plan
from tools.planner.planner import plan_for_budget
from tools.preparation import prepare, tile_size


@dataclass(frozen=True, slots=True)
class PlanningRow:
    """One model in one budget.

    Attributes:
        model: its name.
        operators: of the graph that was planned, after optimising and tiling.
        weights_bytes: of all of them.
        budget_bytes: for all memory of the model.
        left_bytes: what the budget leaves for weights.
        partitions: how many the plan has; 0 when none fits.
        required_bytes: the least budget, when none fits; 0 otherwise.
        planning_s: time of planning alone.
    """

    model: str
    operators: int
    weights_bytes: int
    budget_bytes: int
    left_bytes: int
    partitions: int
    required_bytes: int
    planning_s: float

    @property
    def simple_bound(self) -> int:
        """Bytes of weights over bytes of budget, rounded up."""
        return max(1, -(-self.weights_bytes // self.budget_bytes))

    @property
    def bound(self) -> int:
        """Bytes of weights over what is left for them, rounded up; 0 when nothing is."""
        return max(1, -(-self.weights_bytes // self.left_bytes)) if self.left_bytes > 0 else 0


def planning_rows(
    models: Iterable[tuple[str, Path]], budgets: Iterable[int], *, optimization: str = "extended"
) -> Iterator[PlanningRow]:
    """Plans models with the fewest partitions.

    Args:
        models: names and ONNX files.
        budgets: for all memory of a model; numbers below 100 divide the size of its file.
        optimization: a key of `app.manifest.OPTIMIZATIONS`.

    Raises:
        ModelError: when a model isn't valid.
    """
    sizes = tuple(budgets)
    for name, path in models:
        for given in sizes:
            budget = path.stat().st_size // given if given < 100 else given
            yield _row(name, path, budget, optimization)


def _row(name: str, path: Path, budget_bytes: int, optimization: str) -> PlanningRow:
    tile_bytes = tile_size(budget_bytes, "partitions")
    prepared = prepare(path, optimization, {}, tile_bytes=tile_bytes, budget_bytes=budget_bytes)
    graph = prepared.summary
    plan, required = None, 0
    started = time.perf_counter()
    try:
        plan = plan_for_budget(graph, budget_bytes, objective="partitions")
    except NoFeasiblePlanError as error:
        required = error.required_bytes
    return PlanningRow(
        model=name,
        operators=len(graph.nodes),
        weights_bytes=sum(
            graph.weight_bytes[n] for n in {w for v in graph.nodes for w in v.weights}
        ),
        budget_bytes=budget_bytes,
        left_bytes=budget_bytes - _other_bytes(plan) if plan else 0,
        partitions=len(plan.partitions) if plan else 0,
        required_bytes=required,
        planning_s=time.perf_counter() - started,
    )


def _other_bytes(plan: Plan) -> int:
    structures = sum(each.session_bytes for each in plan.partitions)
    working = max(each.boundary_bytes + each.activation_bytes for each in plan.partitions)
    return structures + working + plan.scratch_bytes
