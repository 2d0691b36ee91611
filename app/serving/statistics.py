"""What a model has done so far, as plain counters that others render."""

from __future__ import annotations

import copy
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from app.errors import ApplianceError, BusyError, CancelledError, DeadlineError, ExecutionError
from app.runner import RunResult
from app.serving.job import Job

REASONS = ("REJECTED", "CANCELED", "BACKEND", "OTHER")
"""Why a request failed: no place or time for it, nobody waited, the model failed, anything else."""


DURATION_BOUNDS_MS: Final = (1, 3, 10, 30, 100, 300, 1000, 3000, 10_000, 30_000)
"""Durations are told apart at these bounds only, each about three times the one before."""

_NS_PER_MS: Final = 1_000_000


@dataclass(slots=True)
class Span:
    """How often something happened, and how long it took altogether."""

    count: int = 0
    ns: int = 0

    def add(self, ns: int) -> None:
        """Adds one."""
        self.count += 1
        self.ns += ns


@dataclass(slots=True)
class Durations:
    """How often something took how long, coarsely.

    Attributes:
        counts: up to each of `DURATION_BOUNDS_MS` and above the one before; the last is beyond all.
    """

    counts: list[int] = field(default_factory=lambda: [0] * (len(DURATION_BOUNDS_MS) + 1))

    def add(self, ns: int) -> None:
        """Adds one."""
        self.counts[bisect_left(DURATION_BOUNDS_MS, ns / _NS_PER_MS)] += 1


@dataclass(slots=True)
class Statistics:
    """Counters of one model version since the start; loading it again doesn't reset them.

    Attributes:
        name, version: which.
        success: requests with an answer, from their arrival at the server on.
        fail: those without.
        reasons: how many of the failed ones for each of `REASONS`.
        queue: waiting, for the successful ones: for a worker, for a place in a batch, for loading.
        durations, queue_durations: those of `success` and `queue`, one by one.
        compute_input: reading tensors from requests.
        compute_infer: running, the whole batch's time for each of its requests.
        compute_output: writing tensors to answers.
        batches: for every size of a batch, how many ran and how long.
        loads: how often the model was loaded, and how long it took.
        decrypted_bytes: weights decrypted for requests.
        load_ns: time in which they were read and decrypted, hidden behind computing or not.
        stalled_ns: time in which runs waited for weights.
        run_ns: time in which partitions computed.
        peak_bytes: most memory accounted for a run.
        last_inference_ms: when the last run ended, in Unix time; 0 before.
        waiting: requests that wait for a batch, at the time of the copy.
        share_bytes: the model's part of the budget then, 0 while it isn't loaded.
    """

    name: str
    version: int
    success: Span = field(default_factory=Span)
    fail: Span = field(default_factory=Span)
    reasons: dict[str, int] = field(default_factory=lambda: dict.fromkeys(REASONS, 0))
    queue: Span = field(default_factory=Span)
    durations: Durations = field(default_factory=Durations)
    queue_durations: Durations = field(default_factory=Durations)
    compute_input: Span = field(default_factory=Span)
    compute_infer: Span = field(default_factory=Span)
    compute_output: Span = field(default_factory=Span)
    batches: dict[int, Span] = field(default_factory=dict)
    loads: Span = field(default_factory=Span)
    decrypted_bytes: int = 0
    load_ns: int = 0
    stalled_ns: int = 0
    run_ns: int = 0
    peak_bytes: int = 0
    last_inference_ms: int = 0
    waiting: int = 0
    share_bytes: int = 0

    @property
    def spans(self) -> dict[str, Span]:
        """The phases of requests by their names in the protocol."""
        return {
            "success": self.success,
            "fail": self.fail,
            "queue": self.queue,
            "compute_input": self.compute_input,
            "compute_infer": self.compute_infer,
            "compute_output": self.compute_output,
        }


class Recorder:
    """Counts what one model version does, from several threads."""

    def __init__(
        self,
        name: str,
        version: int,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._now_ms = now_ms
        self._lock = threading.Lock()
        self._found = Statistics(name, version)

    def snapshot(self) -> Statistics:
        """Gives a copy that doesn't change any more."""
        with self._lock:
            return copy.deepcopy(self._found)

    def succeeded(self, total_ns: int, queue_ns: int, infer_ns: int) -> None:
        """Counts a request with an answer."""
        with self._lock:
            self._found.success.add(total_ns)
            self._found.queue.add(queue_ns)
            self._found.durations.add(total_ns)
            self._found.queue_durations.add(queue_ns)
            self._found.compute_infer.add(infer_ns)

    def failed(self, error: ApplianceError, total_ns: int) -> None:
        """Counts a request without one."""
        with self._lock:
            self._found.fail.add(total_ns)
            self._found.reasons[_reason(error)] += 1

    def ran(self, batch: Sequence[Job]) -> None:
        """Counts a batch that ended."""
        results = [job.outcome for job in batch if isinstance(job.outcome, RunResult)]
        with self._lock:
            self._found.batches.setdefault(len(batch), Span()).add(
                batch[0].ended_ns - batch[0].started_ns
            )
            # Requests that ran together share their timings; one that ran alone has its own.
            for timings in {id(each.timings): each.timings for each in results}.values():
                self._found.decrypted_bytes += sum(each.weights_bytes for each in timings)
                self._found.load_ns += sum(each.load_ns for each in timings)
                self._found.run_ns += sum(each.run_ns for each in timings)
                self._found.stalled_ns += sum(each.wait_ns for each in timings)
            peaks = [self._found.peak_bytes, *(each.peak_bytes for each in results)]
            self._found.peak_bytes = max(peaks)
            self._found.last_inference_ms = self._now_ms()

    def loaded(self, ns: int) -> None:
        """Counts a load of the model."""
        with self._lock:
            self._found.loads.add(ns)

    def read_input(self, ns: int) -> None:
        """Counts the reading of a request's tensors."""
        with self._lock:
            self._found.compute_input.add(ns)

    def wrote_output(self, ns: int) -> None:
        """Counts the writing of an answer's tensors."""
        with self._lock:
            self._found.compute_output.add(ns)


def _reason(error: ApplianceError) -> str:
    if isinstance(error, BusyError | DeadlineError):
        return "REJECTED"
    if isinstance(error, CancelledError):
        return "CANCELED"
    return "BACKEND" if isinstance(error, ExecutionError) else "OTHER"
