"""Figures of `tenants` and `attacks`: what a quiet client notices, and what is left in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from tools.bench.criterion import HOLDS, verdict
from tools.bench.drawing.picture import MIB, MS, Picture, middle, runtime_title, values
from tools.bench.results import Result, Row
from tools.bench.rivals import ASKED
from tools.bench.spread import spread
from tools.bench.tenants import PINNED, SHARED
from tools.figures.bench_charts import Middle, bars

_PERCENTILES: Final = {"p50": "half of all", "p99": "99 %"}
_MEMORY: Final = {
    "memory before": "before",
    "memory, most": "most",
    "memory after": "after",
}
_CORES: Final = {
    SHARED: "on all cores",
    PINNED: "clients on one core,\nappliance on the others",
}
_HOLDS: Final = {True: "holds", False: "doesn't hold"}
_LATENCY: Final = "latency, ms (median of rounds; whiskers: quartiles)"


def tenants(result: Result) -> Iterator[Picture]:
    """Draws, for each model and number of threads, one tenant alone and beside another."""
    for model, threads, rows in _groups(result):
        ratios = {row.labels["cores"]: row for row in rows if row.metric == "p99 ratio"}
        groups = {cores: f"{_CORES[cores]}\n(99 %: {_ratio(row)})" for cores, row in ratios.items()}
        series = _percentiles(rows, "cores", groups)
        said = "; ".join(
            f"{cores} cores: p99 {_ratio(row)} its value alone" for cores, row in ratios.items()
        )
        connections = rows[0].labels["connections"]
        if series:
            yield Picture(
                f"{model}-{threads}t-tenants",
                bars(
                    f"{model}: one connection alone, and beside another tenant's {connections}",
                    _runtime(rows),
                    series,
                    _LATENCY,
                ),
                f"Bars of latency of {model} alone and beside {connections} busy connections. "
                f"{said}.",
                "Each bar is the median over rounds of that round's percentile. 'Beside' means "
                f"that another tenant keeps {connections} connections busy, 'cores busy' that "
                "something keeps the processor busy which asks nothing. In brackets is p99 "
                "beside the other as a multiple of p99 alone, the median over rounds. Asked is at "
                f"most {ASKED:g}.",
            )


def attacks(result: Result) -> Iterator[Picture]:
    """Draws, for each model and number of threads, latency during attacks, and memory."""
    for model, threads, rows in _groups(result):
        latency = _latency_of_attacks(model, threads, rows)
        if latency:
            yield latency
            yield _memory(model, threads, rows)


def _latency_of_attacks(model: str, threads: str, rows: Sequence[Row]) -> Picture | None:
    verdicts = {row.labels["attack"]: row for row in rows if row.metric == HOLDS}
    ratios = {
        row.labels["attack"]: _ratio(row) if row.samples else "no answer"
        for row in rows
        if row.metric == "p99 ratio to busy cores"
    }
    groups = {
        attack: f"{attack}\n({ratios[attack]}: {_HOLDS[bool(row.median)]})"
        for attack, row in verdicts.items()
    }
    slowest = [row for row in rows if row.metric == "p99"]
    series = _percentiles(slowest, "attack", groups)
    if not series:
        return None
    said = "; ".join(
        f"{attack}: p99 {ratios[attack]}, {verdict(row)}" for attack, row in verdicts.items()
    )
    return Picture(
        f"{model}-{threads}t-attacks",
        bars(
            f"{model}: a quiet client while others attack",
            _runtime(rows),
            series,
            _LATENCY,
            logarithmic=True,
        ),
        f"Bars of the latency that 1 % exceed, of {model} without and during each attack, and p99 "
        f"during as a multiple of its value on busy cores: {said}.",
        "In brackets is p99 during the attack as a multiple of p99 with busy cores, the median "
        "over rounds, and whether everything that is asked holds: the multiple is at most "
        f"{ASKED:g}, the quiet client has no error, whoever connects anew is served, and memory "
        "comes back. Attackers' own computing gives way to all other, but takes its part of the "
        "processor's power: 'cores busy' means that something computes likewise which asks "
        "nothing. The axis is logarithmic.",
    )


def _percentiles(
    rows: Sequence[Row], label: str, groups: Mapping[str, str]
) -> dict[str, dict[str, Middle]]:
    """Gives bars for each percentile and situation, in the groups that a label's values name."""
    series: dict[str, dict[str, Middle]] = {}
    for row in rows:
        if row.metric in _PERCENTILES and row.samples:
            name = f"{_PERCENTILES[row.metric]}, {row.labels['when']}"
            series.setdefault(name, {})[groups[row.labels[label]]] = middle(row.samples, MS)
    return series


def _memory(model: str, threads: str, rows: Sequence[Row]) -> Picture:
    series: dict[str, dict[str, Middle]] = {name: {} for name in _MEMORY.values()}
    for row in rows:
        if row.metric in _MEMORY and row.samples:
            series[_MEMORY[row.metric]][row.labels["attack"]] = middle(row.samples, 1 / MIB)
    said = "; ".join(
        f"{row.labels['attack']} {row.median / MIB:.1f} MiB"
        for row in rows
        if row.metric == "growth from the second round on" and row.samples
    )
    return Picture(
        f"{model}-{threads}t-attacks-memory",
        bars(
            f"{model}: the appliance's memory around attacks",
            _runtime(rows),
            series,
            "resident memory, MiB (median of rounds; whiskers: quartiles)",
        ),
        f"Bars of resident memory before, during and after each attack. Growth from the second "
        f"round on: {said or 'not measured'}.",
        "All processes of the appliance, a fresh one for each attack. 'After' is when the "
        "attackers are gone and its own metrics say that it holds nothing of theirs. The first "
        "round makes room that the allocator keeps for the next one; memory is bounded when later "
        "rounds add nothing.",
    )


def _groups(result: Result) -> Iterator[tuple[str, str, list[Row]]]:
    for model in values(result.rows, "model"):
        of_model = [row for row in result.rows if row.labels["model"] == model]
        for threads in values(of_model, "threads"):
            yield model, threads, [row for row in of_model if row.labels["threads"] == threads]


def _runtime(rows: Sequence[Row]) -> str:
    return f"runtime: {runtime_title(rows[0].labels['runtime'])}; clients on the same machine"


def _ratio(row: Row) -> str:
    return f"{spread(row.samples).median:.2f}×" if row.samples else "not available"
