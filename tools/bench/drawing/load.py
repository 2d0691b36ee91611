"""Figures of `load`: throughput and latency over the load, and where a request's time goes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from tools.bench.drawing.picture import MS, Picture, middle, runtime_title, threads_title
from tools.bench.profile import PHASES
from tools.bench.results import Result, Row
from tools.figures.bench_charts import Curve, Middle, Scale, curves, stacked

_PERCENTILES: Final = (("p50", "median"), ("p95", "95 %"), ("p99", "99 %"))
_PHASE_TITLES: Final = {
    "tls and queue": "TLS and queue",
    "turn": "wait for its turn",
    "wait": "wait for weights",
}
_UNDIVIDED: Final = "not told apart"
_CLIENTS: Final = Scale("clients", logarithmic=True)


def pictures(result: Result) -> Iterator[Picture]:
    """Draws the figures of each model with each number of threads."""
    subjects = [(row.labels["model"], row.labels.get("threads", "")) for row in result.rows]
    for model, threads in dict.fromkeys(subjects):
        rows = [
            row
            for row in result.rows
            if (row.labels["model"], row.labels.get("threads", "")) == (model, threads)
        ]
        name = f"{model}-{threads}t" if threads else model
        yield from _pictures(name, _title(model, rows[0]), rows)


def _title(model: str, row: Row) -> str:
    labels = row.labels
    threads = f", {threads_title(labels['threads'])}" if "threads" in labels else ""
    together = labels.get("lock step", "1")
    return model + threads + (f", lock step of {together}" if together != "1" else "")


def _pictures(name: str, title: str, rows: Sequence[Row]) -> Iterator[Picture]:
    runtime = f"runtime: {runtime_title(rows[0].labels['runtime'])}; clients on the same machine"
    closed = [row for row in rows if row.labels["loop"] == "closed"]
    opened = [row for row in rows if row.labels["loop"] == "open"]
    if closed:
        yield _closed(name, title, closed, runtime)
    if any(row.metric in PHASES and row.samples for row in closed):
        yield _phases(name, title, closed, runtime)
    if opened:
        yield _open(name, title, opened, runtime)


def _curve(rows: Sequence[Row], metric: str, name: str, label: str, factor: float) -> Curve:
    found = sorted(
        (float(row.labels[label]), middle(row.samples, factor))
        for row in rows
        if row.metric == metric and row.samples
    )
    return Curve(name, [x for x, _ in found], [each for _, each in found])


def _closed(name: str, title: str, rows: Sequence[Row], runtime: str) -> Picture:
    throughput = _curve(rows, "throughput", "right answers", "clients", 1)
    failed = _curve(rows, "errors", "refused or failed", "clients", 1)
    latency = [_curve(rows, metric, text, "clients", MS) for metric, text in _PERCENTILES]
    sizes = _curve(rows, "batch size", "requests in a batch", "clients", 1)
    best = max(each.median for each in throughput.middles)
    note = f"{runtime}; {sum(m.median for m in failed.middles):.0f} requests refused or failed"
    panels = [
        (_CLIENTS, Scale("answers per second"), [throughput]),
        (_CLIENTS, Scale("latency, ms", logarithmic=True), latency),
    ]
    if sizes.x:
        panels.append((_CLIENTS, Scale("requests that ran together"), [sizes]))
    return Picture(
        f"{name}-closed-loop",
        curves(f"{title}: each client asks again when it has its answer", note, panels),
        f"Throughput and latency of {title} by number of clients; at best {best:.3g} answers per "
        "second.",
        "Throughput flattens where the processor is used up; from there on more clients only wait "
        "longer. Requests that the server refuses because its queue is full count as errors, not "
        "as fast answers. Requests that run together share each loading of weights.",
    )


def _phases(name: str, title: str, rows: Sequence[Row], runtime: str) -> Picture:
    bars: dict[str, dict[str, float]] = {}
    for row in rows:
        if row.metric in PHASES and row.samples:
            clients = row.labels["clients"]
            bar = bars.setdefault(f"{clients} client{'s' if clients != '1' else ''}", {})
            bar[_PHASE_TITLES.get(row.metric, row.metric)] = row.median * MS
    order = [*(_PHASE_TITLES.get(phase, phase) for phase in PHASES), _UNDIVIDED]
    shown = {"a request": bars}
    return Picture(
        f"{name}-phases",
        stacked(f"{title}: where a request's time goes", runtime, shown, "ms", order),
        f"Stacked bars of the parts of a request to {title} by number of clients; the result file "
        "has the numbers.",
        "Parts are means over a stretch of load. 'Wait for weights' and 'run' are the whole "
        "batch's: every request of a batch waits for all of it. 'Wait for its turn' is the batch "
        "before, and waiting for others to run with.",
    )


def _open(name: str, title: str, rows: Sequence[Row], runtime: str) -> Picture:
    latency = [_curve(rows, metric, text, "rate", MS) for metric, text in _PERCENTILES]
    throughput = _curve(rows, "throughput", "right answers", "rate", 1)
    offered = Curve("offered", throughput.x, [Middle(x, x, x) for x in throughput.x])
    x = Scale("requests offered per second")
    return Picture(
        f"{name}-open-loop",
        curves(
            f"{title}: requests come at random moments (Poisson)",
            runtime,
            [
                (x, Scale("answers per second"), [offered, throughput]),
                (x, Scale("latency, ms", logarithmic=True), latency),
            ],
        ),
        f"Throughput and latency of {title} by the rate of requests.",
        "Latency counts from the moment at which a request was meant to be sent, so a server that "
        "falls behind can't hide it. Where answers fall below what is offered, it is overloaded.",
    )
