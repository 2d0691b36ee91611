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

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, Generic, TypeVar

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
from app.serving.statistics import DURATION_BOUNDS_MS, REASONS, Statistics

T = TypeVar("T")

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
    audit = figures.audit
    yield InfoMetricFamily("cloister_build", "The version.", {"version": __version__})
    runtime = {"runtime": audit.runtime.value, "measurement": audit.measurement or ""}
    yield InfoMetricFamily(
        "cloister_runtime", "What it runs in; the measurement is empty without an enclave.", runtime
    )
    yield from (_family(row, [((), figures)]) for row in _PROCESS)
    if figures.transport is not None:
        yield from (_family(row, [((), figures.transport)]) for row in _TRANSPORT)
    models = [((model.name, str(model.version)), model) for model in figures.models]
    yield from (_family(row, models, _MODEL) for row in _MODELS)
    yield from (_histogram(*histogram, models) for histogram in _HISTOGRAMS)
    yield from (_family(row, models, _MODEL) for row in _TRITON)


class _Collector(Collector):
    """A registry of its own for each scrape: there is nothing global to be read by accident."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    def collect(self) -> Iterable[Metric]:
        return families(self._figures)


# --- the table ------------------------------------------------------------------------------------

_COUNTER: Final = CounterMetricFamily
_GAUGE: Final = GaugeMetricFamily
_UNTYPED: Final = UnknownMetricFamily
"""For Triton's counters: the library makes every counter's name end in `_total`."""


@dataclass(frozen=True, slots=True)
class _Row(Generic[T]):
    """A metric.

    Attributes:
        kind: counter, gauge or untyped.
        name: without a counter's `_total`.
        text: what it means.
        value: of what it is read from; with `label`, a value for each of the label's.
        label: its label beside those of what it is read from.
    """

    kind: type[CounterMetricFamily | GaugeMetricFamily | UnknownMetricFamily]
    name: str
    text: str
    value: Callable[[T], float | Mapping[str, float]]
    label: str = ""


def _ms(ns: int) -> int:
    return ns // _NS_PER_MS


def _seconds(ns: int) -> float:
    return _ms(ns) / _MS_PER_S


def _microseconds(ns: int) -> int:
    return _ms(ns) * _MS_PER_S


def _phases(model: Statistics) -> Mapping[str, float]:
    return {
        "decode": _seconds(model.compute_input.ns),
        "queue": _seconds(model.queue.ns),
        "load": _seconds(model.load_ns),
        "wait": _seconds(model.stalled_ns),
        "run": _seconds(model.run_ns),
        "encode": _seconds(model.compute_output.ns),
    }


def _failures(model: Statistics) -> Mapping[str, float]:
    return {reason: model.reasons[reason] for reason in REASONS}


def _own_failures(model: Statistics) -> Mapping[str, float]:
    return {reason.lower(): model.reasons[reason] for reason in REASONS}


def _batches(model: Statistics) -> int:
    return sum(span.count for span in model.batches.values())


def _body_bytes(seen: TransportCounters) -> int:
    return -(-seen.body_bytes // MIB) * MIB  # the length of JSON depends on its values


def _answers(seen: TransportCounters) -> Mapping[str, float]:
    return {str(status): number for status, number in sorted(seen.answers.items())}


# fmt: off
_PROCESS: Final[Sequence[_Row[Figures]]] = (
    _Row(_GAUGE, "cloister_insecure_settings", "Settings that weaken security and are set.",
         lambda figures: len(figures.audit.insecure_settings)),
    _Row(_GAUGE, "cloister_memory_budget_bytes", "Budget of all models together.",
         lambda figures: figures.budget_bytes),
    _Row(_GAUGE, "cloister_memory_used_bytes", "What of it loaded models have.",
         lambda figures: figures.used_bytes),
)
_TRANSPORT: Final[Sequence[_Row[TransportCounters]]] = (
    _Row(_GAUGE, "cloister_connections", "Open connections.", lambda seen: seen.connections),
    _Row(_GAUGE, "cloister_requests_in_progress", "Requests waiting or running.",
         lambda seen: seen.working),
    _Row(_GAUGE, "cloister_queue_requests", "Requests waiting for a worker.",
         lambda seen: seen.queued),
    _Row(_GAUGE, "cloister_body_bytes", "Room that request bodies take, in MiB.", _body_bytes),
    _Row(_COUNTER, "cloister_connections_accepted", "Connections that got a place.",
         lambda seen: seen.accepted),
    _Row(_COUNTER, "cloister_connections_refused", "Connections without a place.",
         lambda seen: seen.unplaced),
    _Row(_COUNTER, "cloister_tls_handshakes", "TLS handshakes that were completed.",
         lambda seen: seen.handshakes),
    _Row(_COUNTER, "cloister_tls_handshake_failures",
         "TLS handshakes that failed, took too long or made room.",
         lambda seen: seen.handshake_failures),
    _Row(_COUNTER, "cloister_refusals", "Requests turned away before a worker got them.",
         lambda seen: seen.refusals, "reason"),
    _Row(_COUNTER, "cloister_answers", "Answers by HTTP status.", _answers, "status"),
)
_MODELS: Final[Sequence[_Row[Statistics]]] = (
    _Row(_COUNTER, "cloister_requests", "Answered requests.", lambda model: model.success.count),
    _Row(_COUNTER, "cloister_request_failures", "Failed requests.", _own_failures, "reason"),
    _Row(_COUNTER, "cloister_request_seconds",
         "Time of answered requests, from arrival to the end of their run.",
         lambda model: _seconds(model.success.ns)),
    _Row(_COUNTER, "cloister_phase_seconds", "Time by phase.", _phases, "phase"),
    _Row(_COUNTER, "cloister_decrypted_bytes", "Weights decrypted for requests.",
         lambda model: model.decrypted_bytes),
    _Row(_COUNTER, "cloister_model_loads", "Loads.", lambda model: model.loads.count),
    _Row(_COUNTER, "cloister_model_load_seconds", "Time that loading took.",
         lambda model: _seconds(model.loads.ns)),
    _Row(_GAUGE, "cloister_model_memory_bytes",
         "The model's part of the budget, 0 while it isn't loaded.",
         lambda model: model.share_bytes),
    _Row(_GAUGE, "cloister_model_queue_requests", "Requests waiting for their batch.",
         lambda model: model.waiting),
)
_TRITON: Final[Sequence[_Row[Statistics]]] = (
    _Row(_UNTYPED, "nv_inference_request_success", "Triton's name of cloister_requests_total.",
         lambda model: model.success.count),
    _Row(_UNTYPED, "nv_inference_request_failure",
         "Triton's name of cloister_request_failures_total.", _failures, "reason"),
    _Row(_UNTYPED, "nv_inference_count", "Triton's name of cloister_requests_total.",
         lambda model: model.success.count),
    _Row(_UNTYPED, "nv_inference_exec_count", "Triton's name of cloister_batch_size_count.",
         _batches),
    _Row(_GAUGE, "nv_inference_pending_request_count",
         "Triton's name of cloister_model_queue_requests.", lambda model: model.waiting),
    _Row(_UNTYPED, "nv_inference_request_duration_us",
         "Triton's name of cloister_request_seconds_total.",
         lambda model: _microseconds(model.success.ns)),
    _Row(_UNTYPED, "nv_inference_queue_duration_us", "Triton's name of the phase queue.",
         lambda model: _microseconds(model.queue.ns)),
    _Row(_UNTYPED, "nv_inference_compute_input_duration_us", "Triton's name of the phase decode.",
         lambda model: _microseconds(model.compute_input.ns)),
    _Row(_UNTYPED, "nv_inference_compute_infer_duration_us",
         "Triton's name of the batch's time, once for each of its requests.",
         lambda model: _microseconds(model.compute_infer.ns)),
    _Row(_UNTYPED, "nv_inference_compute_output_duration_us", "Triton's name of the phase encode.",
         lambda model: _microseconds(model.compute_output.ns)),
)
# fmt: on


def _family(
    row: _Row[T], sources: Sequence[tuple[tuple[str, ...], T]], labels: Sequence[str] = ()
) -> Metric:
    """Reads a metric from what it is kept in, each with its values of the labels."""
    family = row.kind(row.name, row.text, labels=(*labels, *([row.label] if row.label else ())))
    for values, source in sources:
        value = row.value(source)
        series = value.items() if isinstance(value, Mapping) else [("", value)]
        for name, number in series:
            family.add_metric((*values, name) if row.label else values, number)
    return family


_Buckets = Callable[[Statistics], Sequence[tuple[str, float]]]
"""For each upper bound how many were at or below it."""


def _histogram(
    name: str,
    text: str,
    buckets: _Buckets,
    total: Callable[[Statistics], float],
    models: Sequence[tuple[tuple[str, ...], Statistics]],
) -> Metric:
    family = HistogramMetricFamily(name, text, labels=_MODEL)
    for values, model in models:
        family.add_metric(values, buckets(model), total(model))
    return family


def _durations(counts: Sequence[int]) -> Sequence[tuple[str, float]]:
    bounds = (*(str(bound / _MS_PER_S) for bound in DURATION_BOUNDS_MS), "+Inf")
    return list(zip(bounds, accumulate(counts), strict=True))


def _batch_sizes(model: Statistics) -> Sequence[tuple[str, float]]:
    ran = [
        sum(span.count for size, span in model.batches.items() if size <= most)
        for most in BATCH_BUCKETS
    ]
    return [*zip(map(str, BATCH_BUCKETS), ran, strict=True), ("+Inf", _batches(model))]


# fmt: off
_HISTOGRAMS: Final[Sequence[tuple[str, str, _Buckets, Callable[[Statistics], float]]]] = (
    ("cloister_request_duration_seconds",
     "Answered requests, from arrival to the end of their run.",
     lambda model: _durations(model.durations.counts), lambda model: _seconds(model.success.ns)),
    ("cloister_queue_duration_seconds", "The part of it that answered requests waited.",
     lambda model: _durations(model.queue_durations.counts),
     lambda model: _seconds(model.queue.ns)),
    ("cloister_batch_size", "Requests that ran together.", _batch_sizes,
     lambda model: sum(size * span.count for size, span in model.batches.items())),
)
# fmt: on
