"""The rules that people read are those that the code follows, and each has a test of its bits."""

from __future__ import annotations

from tests.architecture.imports import ROOT
from tests.unit.tools.graph.tiling.test_rows import CASES
from tools.graph.tiling.rules import RULES, table


def test_readme_shows_every_rule() -> None:
    assert table() in (ROOT / "tools" / "graph" / "README.md").read_text(encoding="utf-8")


def test_every_form_by_rows_has_a_case() -> None:
    assert {rule.op_type for rule in RULES if rule.what == "activations"} == set(CASES)


def test_a_rule_is_exact_or_has_a_bound() -> None:
    for rule in RULES:
        assert rule.result.startswith("bit-exact") or "γ(K)" in rule.result
