"""A plan that is taken apart adds up to the plan."""

from __future__ import annotations

import pytest

from app.limits import MIB
from tests.unit.tools.planner.graphs import GRAPH, chain
from tools.planner.explain import alone_bytes, explain
from tools.planner.plan import Plan
from tools.planner.planner import plan_for_budget, plan_for_count

HEAVY = chain([MIB] * 12, 100_000)


def plans() -> list[Plan]:
    return [
        plan_for_budget(HEAVY, 9 * MIB, overlap=True),
        plan_for_budget(HEAVY, 9 * MIB, overlap=False, threads=2),
        plan_for_budget(HEAVY, 12 * MIB, lock_step=4),
        plan_for_budget(HEAVY, 64 * MIB),
        plan_for_count(HEAVY, 5),
        plan_for_budget(GRAPH, 64 * MIB),
    ]


@pytest.mark.parametrize("plan", plans())
def test_the_largest_peak_is_the_plans(plan: Plan) -> None:
    assert max(row.peak_bytes for row in explain(plan).rows) == plan.peak_bytes


@pytest.mark.parametrize("plan", plans())
def test_computing_and_waiting_make_the_request(plan: Plan) -> None:
    found = explain(plan)
    assert sum(row.wait_ns + row.run_ns for row in found.rows) == found.request_ns
    assert found.request_ns == plan.request_ns
    assert all(row.wait_ns <= row.load_ns for row in found.rows)


@pytest.mark.parametrize("plan", plans())
def test_what_stays_is_neither_loaded_nor_waited_for(plan: Plan) -> None:
    found = explain(plan)
    stay = [row for row in found.rows if row.is_pinned]
    assert all(row.load_ns == row.wait_ns == 0 for row in stay)
    assert found.pinned_bytes == sum(row.partition.weights_bytes for row in stay)


@pytest.mark.parametrize("plan", plans())
def test_each_partition_says_why_it_ends(plan: Plan) -> None:
    *inner, last = (partition.why for partition in plan.partitions)
    assert last == "the model ends here"
    assert all(inner)


def test_reasons_are_what_would_happen_otherwise() -> None:
    tight = plan_for_budget(HEAVY, 7 * MIB)
    assert len(tight.partitions) > 1
    assert "of weights follow in 'n" in tight.partitions[0].why
    assert "joined with the next" in tight.partitions[0].why
    assert "97.7 KiB cross here" in tight.partitions[0].why
    asked = plan_for_count(HEAVY, 3).partitions[0].why
    assert asked == "3 partitions were asked for, with weights spread evenly"


def test_a_partition_alone_takes_the_engine_too() -> None:
    plan = plan_for_count(HEAVY, 4)
    first, *others = (alone_bytes(plan, partition) for partition in plan.partitions)
    assert all(abs(other - first) < MIB for other in others)
    assert max(first, *others) <= plan.peak_bytes + MIB
