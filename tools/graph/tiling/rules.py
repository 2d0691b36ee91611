"""All rules in one list. tools/graph/README.md shows them; a test compares the two."""

from __future__ import annotations

from typing import Final

from tools.graph.tiling import rows, weights
from tools.graph.tiling.parts import Rule

RULES: Final[tuple[Rule, ...]] = (*weights.RULES, *rows.RULES)


def table() -> str:
    """Gives the rules as a Markdown table, those that differ in the operator alone in one row."""
    grouped: dict[tuple[str, str, str], list[str]] = {}
    for rule in RULES:
        grouped.setdefault((rule.what, rule.axis, rule.result), []).append(rule.op_type)
    rows_ = [
        f"| {what} | {', '.join(sorted(op_types))} | {axis} | {result} |"
        for (what, axis, result), op_types in grouped.items()
    ]
    head = ["| too large | operators | a tile is | result |", "|---|---|---|---|"]
    return "\n".join([*head, *rows_])
