from __future__ import annotations

from pathlib import Path

import pytest

from tools.bench import planner
from tools.bench.planning import PlanningRow
from tools.bench.subjects import Subject

FITS = PlanningRow("m", 9, 100, 60, 40, 3, 0, 0.5)
REFUSED = PlanningRow("m", 9, 100, 10, 0, 0, 3 << 20, 0.1)


def test_a_refused_budget_has_no_number_but_the_least_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner, "planning_rows", lambda *_: iter([FITS, REFUSED]))
    steps: list[int] = []
    case = planner.case_of("m", lambda name: Subject(name, Path("m.onnx")), [60, 10])
    rows = list(case.measure(lambda: steps.append(1)))
    assert len(steps) == case.steps == 2
    fits = {row.metric: row.samples for row in rows if row.labels["budget"] == "60"}
    assert fits["partitions"] == (3.0,)
    assert fits["weights by budget"] == (2.0,)
    assert fits["weights by what is left for them"] == (3.0,)
    (refused,) = (row for row in rows if not row.samples)
    assert refused.labels["budget"] == "10"
    assert "3.0 MiB" in refused.note
