"""Figures of `partitions`: latency and memory by number of partitions and by budget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from tools.bench.drawing.picture import MIB, MS, Picture, middle, threads_title, values
from tools.bench.results import Result, Row
from tools.bench.sweep import RESIDENT
from tools.figures.bench_charts import Course, Curve, Scale, courses, curves

_RUNTIME: Final = "runtime: process, no SGX; one process, no TLS"
_MOST_COURSES: Final = 3
_AXES: Final = {
    "count": Scale("partitions"),
    "budget": Scale("budget, MiB", logarithmic=True),
}


def pictures(result: Result) -> Iterator[Picture]:
    """Draws for each model two sweeps and the course of its memory."""
    for model in values(result.rows, "model"):
        rows = [row for row in result.rows if row.labels["model"] == model]
        resident = next(row for row in rows if row.labels["cut"] == RESIDENT)
        for kind in ("count", "budget"):
            found = [row for row in rows if row.labels["cut"] == kind and row.samples]
            if found:
                yield _sweep(model, kind, found, resident)
        if any(row.metric == "growth over time" for row in rows):
            yield _courses(model, rows)


def _curve(name: str, rows: Sequence[Row], metric: str, kind: str, factor: float) -> Curve:
    scale = 1 if kind == "count" else MIB
    found = sorted(
        (float(row.labels[kind]) / scale, middle(row.samples, factor))
        for row in rows
        if row.metric == metric
    )
    return Curve(name, [x for x, _ in found], [each for _, each in found])


def _sweep(model: str, kind: str, rows: Sequence[Row], resident: Row) -> Picture:
    x = _AXES[kind]
    latency = [
        _curve("request", rows, "latency", kind, MS),
        _curve("of it waiting for weights", rows, "wait", kind, MS),
    ]
    memory = [
        _curve("peak of resident growth", rows, "resident growth", kind, 1 / MIB),
        _curve("budget", rows, "budget", kind, 1 / MIB),
        _curve("decrypted per request", rows, "decrypted", kind, 1 / MIB),
    ]
    whole_ms = resident.median * MS
    threads = threads_title(resident.labels["threads"])
    words = "number of partitions" if kind == "count" else "budget"
    fastest = min(zip(latency[0].middles, latency[0].x, strict=True), key=lambda m: m[0].median)
    return Picture(
        f"{model}-{'partitions' if kind == 'count' else 'budgets'}",
        curves(
            f"{model}, {threads}: {words}",
            _RUNTIME,
            [(x, Scale("time, ms"), latency), (x, Scale("MiB", end=_end(memory)), memory)],
            bounds={0: (whole_ms, "whole in memory")},
        ),
        f"Curves of time and memory of {model} by {words}. The fastest takes "
        f"{fastest[0].median:.3g} ms, at {fastest[1]:g}; the whole model in memory "
        f"{whole_ms:.3g} ms.",
        "Left: a request, with the band between its quartiles; the dashed line is the same model "
        "whole in memory, not protected. Right: the growth of resident memory has to stay below "
        "the budget; decrypted bytes fall to 0 where all weights fit into it. Budgets far above "
        "what is used run out of the picture.",
    )


def _end(memory: Sequence[Curve]) -> float:
    """Gives the end of an axis for what is used; budgets far beyond it run out of the picture."""
    used = max(each.median for curve in (memory[0], memory[2]) for each in curve.middles)
    return 1.5 * used or 1.0


def _courses(model: str, rows: Sequence[Row]) -> Picture:
    budgets = {_variant(row): row.median / MIB for row in rows if row.metric == "budget"}
    shown = [
        Course(
            _variant(row),
            row.at_s,
            [value / MIB for value in row.samples],
            budgets[_variant(row)],
        )
        for row in rows
        if row.metric == "growth over time"
    ]
    tightest = sorted(shown, key=lambda each: -max(each.values) / (each.bound or 1))[:_MOST_COURSES]
    highest = "; ".join(
        f"{each.name}: at most {max(each.values):.3g} of {each.bound:.3g} MiB" for each in tightest
    )
    return Picture(
        f"{model}-memory",
        courses(f"{model}: memory over time", _RUNTIME, tightest, "growth of resident memory, MiB"),
        f"Resident memory of {model} over time against the budget. {highest}.",
        "From opening the bundle through three requests, over what the process had before: the "
        "interpreter and its libraries aren't in it. The dashed line is the budget. Shown are the "
        "cuts that come closest to it.",
    )


def _variant(row: Row) -> str:
    if row.labels["cut"] == "budget":
        return f"{float(row.labels['budget']) / MIB:g} MiB"
    count = row.labels["count"]
    return "1 partition" if count == "1" else f"{count} partitions"
