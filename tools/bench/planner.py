"""The planner's fewest partitions against bounds from below, as rows of a result."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tools.bench.campaign import Case, Step
from tools.bench.planning import PlanningRow, planning_rows
from tools.bench.results import NOT_AVAILABLE, Row
from tools.bench.subjects import Subject
from tools.sizes import format_size


def case_of(name: str, find: Callable[[str], Subject], budgets: Sequence[int]) -> Case:
    """Gives the case of one model in all budgets."""
    return Case(f"{name}, planner", len(budgets), lambda step: _measure(find(name), budgets, step))


def _measure(subject: Subject, budgets: Sequence[int], step: Step) -> list[Row]:
    rows: list[Row] = []
    for found in planning_rows([(subject.name, subject.source)], budgets):
        rows.extend(_rows(found))
        step()
    return rows


def _rows(found: PlanningRow) -> list[Row]:
    labels = {"model": found.model, "budget": str(found.budget_bytes)}
    planning = Row(labels, "planning", "s", (found.planning_s,))
    if not found.partitions:
        note = f"{NOT_AVAILABLE}: the least budget is {format_size(found.required_bytes)}"
        return [Row(labels, "partitions", "", (), note), planning]
    return [
        Row(labels, "partitions", "", (float(found.partitions),)),
        Row(labels, "weights by budget", "", (float(found.simple_bound),)),
        Row(labels, "weights by what is left for them", "", (float(found.bound),)),
        planning,
    ]
