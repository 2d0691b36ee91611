"""The picture of a plan shows what the plan says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.limits import MIB
from tests.unit.tools.planner.graphs import chain
from tools.figures.memory import memory_figure
from tools.figures.style import svg_text
from tools.planner.explain import explain
from tools.planner.plan import Plan
from tools.planner.planner import plan_for_budget

HEAVY = chain([MIB] * 12, 100_000)


def text(plan: Plan) -> str:
    return svg_text(memory_figure("heavy", plan, explain(plan)))


@pytest.mark.parametrize("budget_mib", [7, 10, 64])
def test_all_that_lies_in_memory_is_named(budget_mib: int) -> None:
    plan = plan_for_budget(HEAVY, budget_mib * MIB)
    found = text(plan)
    assert f"heavy: {len(plan.partitions)} partition" in found
    for word in ("structures and chunks", "boundary tensors", "budget", "whole model, resident"):
        assert word in found
    assert ("buffers for streamed weights" in found) == (explain(plan).slots > 0)


def test_what_was_measured_is_shown_when_there_is_something() -> None:
    plan = plan_for_budget(HEAVY, 10 * MIB)
    assert "measured peak" not in text(plan)
    assert "measured peak" in text(replace(plan, measured_bytes=9 * MIB))


@pytest.mark.parametrize(("budget_mib", "axes"), [(7, 2), (10, 1)])
def test_partitions_get_axes_of_their_own_beside_a_much_larger_model(
    budget_mib: int, axes: int
) -> None:
    plan = plan_for_budget(HEAVY, budget_mib * MIB)
    assert len(memory_figure("heavy", plan, explain(plan)).axes) == axes


def test_stacks_end_at_the_peak() -> None:
    plan = plan_for_budget(HEAVY, 10 * MIB)
    made = memory_figure("heavy", plan, explain(plan))
    stacks = [patch for patch in made.axes[0].patches if patch.get_fill()]
    tops = [max(patch.get_data().values) for patch in stacks]  # type: ignore[attr-defined]
    assert max(tops) * MIB == pytest.approx(plan.peak_bytes)
