"""Figures of `peers`, `operators` and `resources`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from tools.bench.drawing.picture import (
    MIB,
    MS,
    Picture,
    middle,
    runtime_title,
    threads_title,
    values,
)
from tools.bench.operators import ORT as OPERATOR_ORT
from tools.bench.operators import THRESHOLD
from tools.bench.operators import TRACT as OPERATOR_TRACT
from tools.bench.peers import ENGINES, ORT, OURS
from tools.bench.results import Result
from tools.figures.bench_charts import Course, Middle, bars, courses, scatter

_PROCESS: Final = "runtime: process, no SGX; one process, no TLS"
_MOST_TYPES: Final = 7


def peers(result: Result) -> Iterator[Picture]:
    """Draws, for each number of threads, all models in all engines as ratios to onnxruntime."""
    for threads in values(result.rows, "threads"):
        rows = result.select("latency", threads=threads)
        series: dict[str, dict[str, Middle]] = {}
        for engine in ENGINES[1:]:
            series[engine] = {}
            for row in rows:
                base = next(r for r in rows if r.labels == {**row.labels, "engine": ORT})
                if row.labels["engine"] == engine and row.samples:
                    ratios = [a / b for a, b in zip(row.samples, base.samples, strict=True)]
                    group = f"{row.labels['model']}\n({base.median * MS:.3g} ms)"
                    series[engine][group] = middle(ratios)
        said = "; ".join(
            f"{group.splitlines()[0]} {found.median:.2f}" for group, found in series[OURS].items()
        )
        yield Picture(
            f"{threads}t-engines",
            bars(
                f"Whole models against partitions, {threads_title(threads)}",
                _PROCESS,
                series,
                "time ÷ whole model in onnxruntime (median; whiskers: quartiles)",
                bound=(1.0, "onnxruntime, whole (its time in brackets)"),
            ),
            f"Bars of time relative to onnxruntime. Partitions as deployed: {said}.",
            "1.0 is the whole model resident in onnxruntime, whose time stands below the model's "
            "name. Ratios are taken round by round. Partitions read and decrypt what doesn't fit "
            "their budget for every request; the others have everything in memory.",
        )


def operators(result: Result) -> Iterator[Picture]:
    """Draws each model's operators: time in one engine against time in the other."""
    threshold = float(result.settings.get("threshold", THRESHOLD))
    for model in values(result.rows, "model"):
        times = {
            (row.labels["operator"], row.labels["engine"]): row
            for row in result.select("time", model=model)
            if row.samples
        }
        pairs = [
            (row, times[name, OPERATOR_TRACT])
            for (name, engine), row in times.items()
            if engine == OPERATOR_ORT and (name, OPERATOR_TRACT) in times
        ]
        if not pairs:
            continue
        common = [
            t for t, _ in Counter(r.labels["type"] for r, _ in pairs).most_common(_MOST_TYPES)
        ]
        groups: dict[str, list[tuple[float, float]]] = {name: [] for name in common}
        for ort, tract in pairs:
            kind = ort.labels["type"] if ort.labels["type"] in groups else "others"
            groups.setdefault(kind, []).append((ort.median * MS, tract.median * MS))
        above = sum(t.median / o.median >= threshold for o, t in pairs)
        yield Picture(
            f"{model}-operators",
            scatter(
                f"{model}: every operator alone, 1 thread",
                _PROCESS,
                groups,
                ("in onnxruntime, ms", "in tract, ms"),
                threshold,
            ),
            f"Points of {len(pairs)} operators of {model} by their time in two engines; {above} "
            f"lie above {threshold:g} times.",
            f"A point on the solid line takes equally long in both engines; one above the dashed "
            f"line takes at least {threshold:g} times as long in tract. Calling an engine costs "
            "some microseconds, which is most of what the smallest operators show.",
        )


def resources(result: Result) -> Iterator[Picture]:
    """Draws the appliance's memory over time."""
    for row in result.select("resident over time"):
        model = row.labels["model"]
        runtime = runtime_title(row.labels["runtime"])
        budget = float(row.labels["plan budget"]) / MIB
        shown = [Course("", row.at_s, [value / MIB for value in row.samples])]
        highest = max(shown[0].values)
        yield Picture(
            f"{model}-resources",
            courses(
                f"{model}: resident memory of the packed appliance",
                f"runtime: {runtime}; model budget {budget:.3g} MiB",
                shown,
                "resident memory, MiB",
            ),
            f"Resident memory of the appliance with {model} over time, at most {highest:.3g} MiB.",
            "All processes of the appliance, interpreter and libraries included, from the moment "
            "it was ready through the first request and the steady state.",
        )
