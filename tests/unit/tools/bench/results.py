"""Results that were never measured, for tests."""

from __future__ import annotations

from tools.bench.results import Result, Row


def result(rows: list[Row], subcommand: str = "modes", **settings: str) -> Result:
    """Gives a result of a machine that doesn't exist."""
    return Result(
        subcommand=subcommand,
        started="2025-01-31T12:00:00+00:00",
        machine={"cpu": "none", "cores": "2"},
        versions={"python": "3.11"},
        commit="0123456789ab",
        settings=settings,
        rows=rows,
    )


def row(mode: str, *samples: float, metric: str = "latency", unit: str = "s") -> Row:
    """Gives a row with one label that tells rows apart."""
    return Row({"model": "m", "mode": mode}, metric, unit, samples)
