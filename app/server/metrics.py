"""The metrics: what a scrape is told, in Prometheus' text format.

The host and whoever has the right `metrics` read it. Labels come from fixed
lists and from the models that are configured: no tenant, no address, nothing
that a client wrote. Counts depend on how many requests there were and on their
shapes. Times are whole milliseconds of running sums and counts between bounds
that are far apart, for a kernel's time may depend on the values that it
computes with. What is left out on purpose: the largest memory of a run, because
a model's inner shapes may depend on values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from prometheus_client import generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
    UnknownMetricFamily,
)
from prometheus_client.registry import Collector

from app import __version__
from app.audit import Audit
from app.limits import MIB
from app.server.counters import TransportCounters
from app.serving.statistics import DURATION_BOUNDS_MS, REASONS, Durations, Statistics

BATCH_BUCKETS: Final = (1, 2, 4, 8, 16, 32, 64)
"""Upper bounds of the batch sizes that are told apart; the last is `MAX_BATCH`."""

_MODEL: Final = ("model", "version")
_NS_PER_MS: Final = 1_000_000
_MS_PER_S: Final = 1000


@dataclass(frozen=True, slots=True)
class Figures:
    """What one scrape is made of.

    Attributes:
        audit: of the start.
        models: what each version has done.
        budget_bytes: for all models together.
        used_bytes: what of it loaded models have.
        transport: None where there is none, as in a test of the routes.
    """

    audit: Audit
    models: Sequence[Statistics]
    budget_bytes: int
    used_bytes: int
    transport: TransportCounters | None = None


def render(figures: Figures) -> bytes:
    """Gives the text of a scrape."""
    return generate_latest(_Collector(figures))


def families(figures: Figures) -> Iterator[Metric]:
    """Gives every metric with its series, in the order of the documentation."""
    yield from _about(figures.audit)
    yield from _of_memory(figures)
    if figures.transport is not None:
        yield from _of_transport(figures.transport)
    yield from (_of_models(row, figures.models) for row in _OWN)
    yield from (_durations(row, figures.models) for row in _DURATIONS)
    yield _batch_sizes(figures.models)
    yield from (_of_models(row, figures.models) for row in _TRITON)


class _Collector(Collector):
    """A registry of its own for each scrape: there is nothing global to be read by accident."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    def collect(self) -> Iterable[Metric]:
        return families(self._figures)


# --- the process ----------------------------------------------------------------------------------


def _about(audit: Audit) -> Iterator[Metric]:
    yield InfoMetricFamily("cloister_build", "The version.", {"version": __version__})
    runtime = {"runtime": audit.runtime.value, "measurement": audit.measurement or ""}
    yield InfoMetricFamily(
        "cloister_runtime", "What it runs in; the measurement is empty without an enclave.", runtime
    )
    count = len(audit.insecure_settings)
    yield _gauge("cloister_insecure_settings", "Settings that weaken security and are set.", count)


def _of_memory(figures: Figures) -> Iterator[Metric]:
    budget, used = figures.budget_bytes, figures.used_bytes
    yield _gauge("cloister_memory_budget_bytes", "Budget of all models together.", budget)
    yield _gauge("cloister_memory_used_bytes", "What of it loaded models have.", used)


def _of_transport(seen: TransportCounters) -> Iterator[Metric]:
    yield _gauge("cloister_connections", "Open connections.", seen.connections)
    yield _gauge("cloister_requests_in_progress", "Requests waiting or running.", seen.working)
    yield _gauge("cloister_queue_requests", "Requests waiting for a worker.", seen.queued)
    body_bytes = -(-seen.body_bytes // MIB) * MIB  # the length of JSON depends on its values
    yield _gauge("cloister_body_bytes", "Room that request bodies take, in MiB.", body_bytes)
    yield CounterMetricFamily(
        "cloister_connections_accepted", "Connections that got a place.", seen.accepted
    )
    yield CounterMetricFamily(
        "cloister_connections_refused", "Connections without a place.", seen.unplaced
    )
    yield CounterMetricFamily(
        "cloister_tls_handshakes", "TLS handshakes that were completed.", seen.handshakes
    )
    yield CounterMetricFamily(
        "cloister_tls_handshake_failures",
        "TLS handshakes that failed, took too long or made room.",
        seen.handshake_failures,
    )
    refusals = CounterMetricFamily(
        "cloister_refusals", "Requests turned away before a worker got them.", labels=["reason"]
    )
    for reason, number in seen.refusals.items():
        refusals.add_metric([reason], number)
    yield refusals
    answers = CounterMetricFamily("cloister_answers", "Answers by HTTP status.", labels=["status"])
    for status, number in sorted(seen.answers.items()):
        answers.add_metric([str(status)], number)
    yield answers


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value)


# --- models ---------------------------------------------------------------------------------------

_Kind = type[CounterMetricFamily | GaugeMetricFamily | UnknownMetricFamily]
_Values = Sequence[tuple[tuple[str, ...], float]]
"""For each series of a model the values of its further labels, and its own."""


@dataclass(frozen=True, slots=True)
class _Row:
    """A metric of each model: its type, name, text, further labels and values."""

    kind: _Kind
    name: str
    text: str
    labels: tuple[str, ...]
    values: Callable[[Statistics], _Values]


def _of_models(row: _Row, models: Sequence[Statistics]) -> Metric:
    family = row.kind(row.name, row.text, labels=(*_MODEL, *row.labels))
    for model in models:
        for more, value in row.values(model):
            family.add_metric((*_key(model), *more), value)
    return family


def _one(kind: _Kind, name: str, text: str, value: Callable[[Statistics], float]) -> _Row:
    """A metric with a single series for each model."""
    return _Row(kind, name, text, (), lambda found: (((), value(found)),))


def _ms(ns: int) -> int:
    return ns // _NS_PER_MS


def _seconds(ns: int) -> float:
    return _ms(ns) / _MS_PER_S


def _microseconds(ns: int) -> int:
    return _ms(ns) * _MS_PER_S


def _failures(found: Statistics) -> _Values:
    return [((reason,), found.reasons[reason]) for reason in REASONS]


def _own_failures(found: Statistics) -> _Values:
    return [((reason.lower(),), found.reasons[reason]) for reason in REASONS]


def _phases(found: Statistics) -> _Values:
    phases = {
        "decode": found.compute_input.ns,
        "queue": found.queue.ns,
        "load": found.load_ns,
        "wait": found.stalled_ns,
        "run": found.run_ns,
        "encode": found.compute_output.ns,
    }
    return [((phase,), _seconds(ns)) for phase, ns in phases.items()]


def _batches(found: Statistics) -> int:
    return sum(span.count for span in found.batches.values())


_COUNTER: Final = CounterMetricFamily
_GAUGE: Final = GaugeMetricFamily
_UNTYPED: Final = UnknownMetricFamily
"""For Triton's counters: the library makes every counter's name end in `_total`."""

_OWN: Final = (
    _one(_COUNTER, "cloister_requests", "Answered requests.", lambda found: found.success.count),
    _Row(_COUNTER, "cloister_request_failures", "Failed requests.", ("reason",), _own_failures),
    _one(
        _COUNTER,
        "cloister_request_seconds",
        "Time of answered requests, from arrival to the end of their run.",
        lambda found: _seconds(found.success.ns),
    ),
    _Row(_COUNTER, "cloister_phase_seconds", "Time by phase.", ("phase",), _phases),
    _one(
        _COUNTER,
        "cloister_decrypted_bytes",
        "Weights decrypted for requests.",
        lambda found: found.decrypted_bytes,
    ),
    _one(_COUNTER, "cloister_model_loads", "Loads.", lambda found: found.loads.count),
    _one(
        _COUNTER,
        "cloister_model_load_seconds",
        "Time that loading took.",
        lambda found: _seconds(found.loads.ns),
    ),
    _one(
        _GAUGE,
        "cloister_model_memory_bytes",
        "The model's part of the budget, 0 while it isn't loaded.",
        lambda found: found.share_bytes,
    ),
    _one(
        _GAUGE,
        "cloister_model_queue_requests",
        "Requests waiting for their batch.",
        lambda found: found.waiting,
    ),
)


def _alias(name: str, of: str, value: Callable[[Statistics], float]) -> _Row:
    return _one(_UNTYPED, f"nv_inference_{name}", f"Triton's name of {of}.", value)


_SUCCESS: Final = "cloister_requests_total"
_FAILURE: Final = _Row(
    _UNTYPED,
    "nv_inference_request_failure",
    "Triton's name of cloister_request_failures_total.",
    ("reason",),
    _failures,
)
_PENDING: Final = _one(
    _GAUGE,
    "nv_inference_pending_request_count",
    "Triton's name of cloister_model_queue_requests.",
    lambda found: found.waiting,
)
_TRITON: Final = (
    _alias("request_success", _SUCCESS, lambda found: found.success.count),
    _FAILURE,
    _alias("count", _SUCCESS, lambda found: found.success.count),
    _alias("exec_count", "cloister_batch_size_count", _batches),
    _PENDING,
    _alias(
        "request_duration_us",
        "cloister_request_seconds_total",
        lambda found: _microseconds(found.success.ns),
    ),
    _alias("queue_duration_us", "the phase queue", lambda found: _microseconds(found.queue.ns)),
    _alias(
        "compute_input_duration_us",
        "the phase decode",
        lambda found: _microseconds(found.compute_input.ns),
    ),
    _alias(
        "compute_infer_duration_us",
        "the batch's time, once for each of its requests",
        lambda found: _microseconds(found.compute_infer.ns),
    ),
    _alias(
        "compute_output_duration_us",
        "the phase encode",
        lambda found: _microseconds(found.compute_output.ns),
    ),
)


@dataclass(frozen=True, slots=True)
class _Histogram:
    """Durations of each model: name, text, how many took how long, and their sum in nanoseconds."""

    name: str
    text: str
    durations: Callable[[Statistics], Durations]
    sum_ns: Callable[[Statistics], int]


_DURATIONS: Final = (
    _Histogram(
        "cloister_request_duration_seconds",
        "Answered requests, from arrival to the end of their run.",
        lambda found: found.durations,
        lambda found: found.success.ns,
    ),
    _Histogram(
        "cloister_queue_duration_seconds",
        "The part of it that answered requests waited.",
        lambda found: found.queue_durations,
        lambda found: found.queue.ns,
    ),
)
_BOUNDS: Final = (*(str(bound / _MS_PER_S) for bound in DURATION_BOUNDS_MS), "+Inf")


def _durations(row: _Histogram, models: Sequence[Statistics]) -> Metric:
    family = HistogramMetricFamily(row.name, row.text, labels=_MODEL)
    for found in models:
        upto = accumulate(row.durations(found).counts)
        buckets = list(zip(_BOUNDS, upto, strict=True))
        family.add_metric(_key(found), buckets, _seconds(row.sum_ns(found)))
    return family


def _batch_sizes(models: Sequence[Statistics]) -> Metric:
    name, text = "cloister_batch_size", "Requests that ran together."
    family = HistogramMetricFamily(name, text, labels=_MODEL)
    for found in models:
        ran = [_ran_up_to(found, size) for size in BATCH_BUCKETS]
        buckets = [*zip(map(str, BATCH_BUCKETS), ran, strict=True), ("+Inf", _batches(found))]
        total = sum(size * span.count for size, span in found.batches.items())
        family.add_metric(_key(found), buckets, total)
    return family


def _ran_up_to(found: Statistics, most: int) -> int:
    return sum(span.count for size, span in found.batches.items() if size <= most)


def _key(found: Statistics) -> tuple[str, str]:
    return found.name, str(found.version)
