"""Brings requests of one model together that worker threads wait with.

There is no thread for it. One of the waiting workers leads: it takes the
requests that go together, runs them and gives every other worker its result;
then another one leads. While a batch runs, the next one gathers by itself. The
leader waits for more only while there is company, that is when the batch before
had more than one request: a client that is alone never waits.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from app.errors import BusyError
from app.limits import MAX_WAITING
from app.runner import RunResult
from app.serving.fair import FairQueue
from app.serving.job import Job

LOOK_S: Final = 0.05
"""How often a waiting request is asked whether its client is there and it has time left."""

_NS_PER_S: Final = 1_000_000_000


class Together(Protocol):
    """How requests of a model run together."""

    @property
    def most(self) -> int:
        """Requests of one batch."""
        ...

    def fits(self, batch: Sequence[Job], job: Job) -> bool:
        """Whether a request can join a batch that isn't full."""
        ...

    def run(self, batch: Sequence[Job]) -> Sequence[RunResult | Exception]:
        """Runs a batch; called by one thread at a time.

        Returns:
            For each request its own end.
        """
        ...


class Batcher:
    """Runs the requests that threads bring, several at a time where that pays.

    Args:
        together: runs a batch.
        max_delay_ns: how long after its arrival a request may be kept waiting for company.
        clock_ns: monotonic.
        places: requests that wait or run.
        ran: told of every batch that ended; its jobs have their times and outcomes.
    """

    def __init__(
        self,
        together: Together,
        max_delay_ns: int,
        *,
        clock_ns: Callable[[], int] = time.perf_counter_ns,
        places: int = MAX_WAITING,
        ran: Callable[[Sequence[Job]], None] = lambda _: None,
    ) -> None:
        self._together = together
        self._max_delay_ns = max_delay_ns
        self._clock_ns = clock_ns
        self._ran = ran
        self._queue: FairQueue[Job] = FairQueue(places, places, places)
        self._changed = threading.Condition()
        self._is_led = False
        self._has_company = False

    @property
    def waiting(self) -> int:
        """Requests that wait for a batch."""
        return len(self._queue)

    def run(self, job: Job) -> RunResult:
        """Runs a request, alone or with others; returns when it has its end.

        Raises:
            BusyError: too many wait already.
            DeadlineError: its deadline passed.
            CancelledError: its client is gone.
            ApplianceError: as `Runner.run_each` gives or raises.
        """
        with self._changed:
            self._refuse(self._queue.offer(job, job.tenant, job.priority))
            self._changed.notify_all()
        while self._wait(job):
            with self._changed:
                batch = self._gather()
            self._run(batch)
        if isinstance(job.outcome, RunResult):
            return job.outcome
        raise job.outcome or BusyError("the request was lost")

    def _wait(self, job: Job) -> bool:
        """Waits for the job's end (False), or until this thread has to lead (True)."""
        with self._changed:
            while job.outcome is None:
                if not self._is_led and not job.taken:
                    self._is_led = True
                    return True
                self._changed.wait(LOOK_S)
                if not job.taken and (end := job.end()) is not None:
                    self._queue.withdraw(job, job.tenant)
                    job.outcome = end
            return False

    def _gather(self) -> list[Job]:
        """Takes what goes together, waiting for more while that may pay."""
        batch: list[Job] = []
        while len(batch) < self._together.most:
            job = self._queue.take(lambda each: not batch or self._together.fits(batch, each))
            if job is not None:
                self._take(job, batch)
                continue
            left_ns = self._patience_ns(batch)
            if left_ns <= 0:
                break
            self._changed.wait(left_ns / _NS_PER_S)
        return batch

    def _patience_ns(self, batch: Sequence[Job]) -> int:
        if not batch or not self._has_company:
            return 0
        return batch[0].arrived_ns + self._max_delay_ns - self._clock_ns()

    def _take(self, job: Job, batch: list[Job]) -> None:
        job.taken = True
        job.outcome = job.end()
        if job.outcome is None:
            batch.append(job)
        else:
            self._queue.done(job.tenant)
            self._changed.notify_all()

    def _run(self, batch: Sequence[Job]) -> None:
        started_ns = self._clock_ns()
        outcomes: Sequence[RunResult | Exception] = []
        try:
            outcomes = self._together.run(batch) if batch else ()
        except Exception as error:  # every caller's, not the leader's
            outcomes = [error] * len(batch)
        ended_ns = self._clock_ns()
        with self._changed:
            for job, outcome in zip(batch, outcomes, strict=True):
                job.started_ns, job.ended_ns, job.outcome = started_ns, ended_ns, outcome
                self._queue.done(job.tenant)
            self._is_led = False
            self._has_company = len(batch) > 1
            self._changed.notify_all()
        if batch:
            self._ran(batch)

    def _refuse(self, job: Job | None) -> None:
        if job is not None:
            job.outcome = BusyError("too many requests wait for the model")
