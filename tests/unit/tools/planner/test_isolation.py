"""Operators with a partition of their own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.errors import InputError
from app.limits import MIB
from tests.unit.tools.planner.graphs import chain
from tools.planner.isolation import read_isolated
from tools.planner.planner import OBJECTIVES, plan_for_budget

LIST = {"format": 1, "model": "m", "threshold": 12.0, "operators": ["a", "b"]}


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_isolated_operators_stand_alone_and_the_rest_stays_together(objective: str) -> None:
    graph = chain([640] * 6)
    name = graph.nodes[2].name
    plan = plan_for_budget(graph, 8 * MIB, objective=objective, isolated=[name])
    assert [(each.start, each.stop) for each in plan.partitions] == [(0, 2), (2, 3), (3, 6)]
    assert len(plan_for_budget(graph, 8 * MIB, objective=objective).partitions) == 1


def test_name_that_the_graph_lacks() -> None:
    with pytest.raises(InputError, match="no operator 'gone'"):
        plan_for_budget(chain([640] * 3), 8 * MIB, isolated=["gone"])


def test_list_is_read(tmp_path: Path) -> None:
    path = tmp_path / "m.isolate"
    path.write_text(json.dumps(LIST))
    assert read_isolated(path) == {"a", "b"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file"),
        ("{", "not JSON"),
        (json.dumps({**LIST, "format": 2}), "format"),
        (json.dumps({**LIST, "more": 1}), "more"),
        (json.dumps({**LIST, "operators": [1]}), "operators"),
    ],
)
def test_what_is_no_list(tmp_path: Path, content: str | None, said: str) -> None:
    path = tmp_path / "m.isolate"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=said):
        read_isolated(path)
