"""Figures of `modes`: latency of every way, and what it is made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
from tools.bench.modes import CACHES, PACKED, PHASES
from tools.bench.results import Result, Row
from tools.bench.ways import DEPLOYED, DISK, MEMORY, MEMORY_BUNDLE, NAIVE
from tools.figures.bench_charts import bars, stacked

_SHORT: Final = {
    MEMORY: "whole, in memory,\nnot protected",
    MEMORY_BUNDLE: "whole, in memory,\ndecrypted once",
    DISK: "whole, from disk\nevery request",
    NAIVE: "partitions, naive",
    DEPLOYED: "partitions,\nas deployed",
    PACKED: "partitions, in the\npacked image",
}
_CACHE_TITLES: Final = {"warm": "page cache warm", "cold": "page cache cold"}
_PHASE_TITLES: Final = {
    "tls": "TLS and HTTP",
    "decode": "decode",
    "read": "read",
    "decrypt": "decrypt",
    "wait": "wait for weights",
    "bind": "bind",
    "run": "run",
    "encode": "encode",
}
_UNDIVIDED: Final = "not told apart"


def pictures(result: Result) -> Iterator[Picture]:
    """Draws two figures for each model and number of threads."""
    latencies = result.select("latency")
    for model in values(latencies, "model"):
        of_model = [row for row in latencies if row.labels["model"] == model]
        for threads in values(of_model, "threads"):
            rows = [row for row in of_model if row.labels["threads"] == threads]
            yield _latency(model, threads, rows)
            yield _phases(result, model, threads, rows)


def _note(rows: Sequence[Row]) -> str:
    runtimes = {row.labels["mode"]: runtime_title(row.labels["runtime"]) for row in rows}
    packed = runtimes.pop(PACKED, None)
    others = ", ".join(dict.fromkeys(runtimes.values()))
    deployed = next(row for row in rows if row.labels["mode"] == DEPLOYED)
    return (
        f"runtime: {others}"
        + (f"; packed image: {packed}" if packed else "")
        + f"; as deployed, partitions: {deployed.labels['partitions']} in "
        f"{float(deployed.labels['plan budget']) / MIB:.3g} MiB"
    )


def _latency(model: str, threads: str, rows: Sequence[Row]) -> Picture:
    series = {
        _CACHE_TITLES[cache]: {
            _SHORT[row.labels["mode"]]: middle(row.samples, MS)
            for row in rows
            if row.labels["cache"] == cache
        }
        for cache in CACHES
    }
    title = f"{model}, {threads_title(threads)}: request sent to answer read"
    said = "; ".join(
        f"{row.labels['mode']} {row.median * MS:.3g} ms"
        for row in rows
        if row.labels["cache"] == "warm"
    )
    return Picture(
        f"{model}-{threads}t-latency",
        bars(title, _note(rows), series, "latency, ms (median; whiskers: quartiles)"),
        f"Bars of latency for each way of keeping {model}. With a warm page cache: {said}.",
        "Each bar is the median of all rounds, its whiskers the quartiles: where whiskers overlap, "
        "the ways hardly differ. All ways answered the same request over TLS with the same code "
        "and number of threads, in turn.",
    )


def _phases(result: Result, model: str, threads: str, rows: Sequence[Row]) -> Picture:
    columns: dict[str, dict[str, dict[str, float]]] = {}
    for row in rows:
        column = columns.setdefault(_CACHE_TITLES[row.labels["cache"]], {})
        column[_SHORT[row.labels["mode"]]] = _parts(result, row)
    title = f"{model}, {threads_title(threads)}: where the time goes"
    return Picture(
        f"{model}-{threads}t-phases",
        stacked(title, _note(rows), columns, "ms", [*_PHASE_TITLES.values(), _UNDIVIDED]),
        f"Stacked bars of the parts of a request for each way of keeping {model}; the result file "
        "has the numbers.",
        "Parts are medians, so their sum is close to the median latency but need not equal it. "
        "'Wait for weights' is reading and decrypting as far as the request noticed it: as "
        "deployed, both happen while an earlier partition runs. 'Bind' is making an onnxruntime "
        "session; as deployed, binding is by address and a part of 'run'.",
    )


def _parts(result: Result, latency: Row) -> dict[str, float]:
    found = {
        _PHASE_TITLES[phase]: row.median * MS
        for phase in PHASES
        for row in result.select(phase)
        if row.labels == latency.labels
    }
    return found or {_UNDIVIDED: latency.median * MS}
