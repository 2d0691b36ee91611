"""Brings requests of one model together that worker threads wait with.

There is no thread for it. One of the waiting workers leads: it takes the
requests that go together, runs them and gives every other worker its result;
then the one leads whose request is next. Only threads that have something to do
are woken: on a small model a needless switch of threads takes as long as a
partition. While a batch runs, the next one gathers by itself. The
leader waits for more only until as many are together as there were at the end of
the batch before, run or waiting, and for a small part of what that one took: a
client that is alone never waits.

The leader's worker charges the whole batch to the leader's client: then others
stand before it, so that one of theirs leads the next one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from app.errors import BusyError
from app.runner import RunResult
from app.serving.accounts import Accounts
from app.serving.job import Job

LOOK_S: Final = 0.05
"""How often a waiting request is asked whether its client is there and it has time left."""

PATIENCE: Final = 10
"""Waiting for company takes no more than this part of what the batch before ran: clients that got
their answers together need as long to send the next requests, the longer the larger they are."""

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
        """Runs a batch of at most `most`, one thread at a time; gives each request its own end."""
        ...


class Batcher:
    """Runs the requests that threads bring, several at a time where that pays.

    Args:
        together: runs a batch.
        accounts: whose request goes next.
        max_delay_ns: how long a request may be kept waiting for company, from its arrival or the
            end of the batch before.
        clock_ns: monotonic.
        ran: told of every batch that ended; its jobs have their times and outcomes.
    """

    def __init__(
        self,
        together: Together,
        accounts: Accounts,
        max_delay_ns: int,
        *,
        clock_ns: Callable[[], int] = time.perf_counter_ns,
        ran: Callable[[Sequence[Job]], None] = lambda _: None,
    ) -> None:
        self._together = together
        self._accounts = accounts
        self._max_delay_ns = max_delay_ns
        self._clock_ns = clock_ns
        self._ran = ran
        self._waiting: list[Job] = []
        """In the order in which they came."""
        self._lock = threading.Lock()
        self._leader: Job | None = None
        self._gathers = False
        self._expected = 1
        self._ran_ns = 0
        self._ended_ns = 0

    @property
    def waiting(self) -> int:
        """Requests that wait for a batch."""
        return len(self._waiting)

    def run(self, job: Job) -> RunResult:
        """Runs a request, alone or with others; returns when it has its end.

        Raises:
            DeadlineError: its deadline passed.
            CancelledError: its client is gone.
            ApplianceError: as `Runner.run_each` gives or raises.
        """
        job.changed = threading.Condition(self._lock)
        with self._lock:
            self._waiting.append(job)
            if self._gathers:
                _wake(self._leader)
        while self._wait(job):
            with self._lock:
                batch = self._gather(job)
            self._run(batch)
        if isinstance(job.outcome, RunResult):
            return job.outcome
        raise job.outcome or BusyError("the request was lost")

    def _wait(self, job: Job) -> bool:
        """Waits for the job's end (False), or until this thread has to lead (True)."""
        with self._lock:
            while job.outcome is None:
                if self._leader is None and not job.taken:
                    self._leader = job
                    return True
                self._pause(job, LOOK_S)
                if not job.taken and (end := job.end()) is not None:
                    self._waiting.remove(job)
                    job.outcome = end
            if self._leader is None:
                _wake(self._next(self._waiting))
            return False

    def _next(self, jobs: Sequence[Job]) -> Job | None:
        """Gives whose turn it is: by clients' standing, a client's own by their priority."""
        first_of_client: dict[str, int] = {}
        for place, job in enumerate(jobs):
            first_of_client.setdefault(job.client, place)
        return min(
            jobs,
            key=lambda job: (
                self._accounts.standing(job.client),
                first_of_client[job.client],
                job.priority,
            ),
            default=None,
        )

    def _pause(self, job: Job, timeout_s: float) -> None:
        """Gives the lock up until the job's thread is woken."""
        if job.changed is not None:
            job.changed.wait(timeout_s)

    def _gather(self, leader: Job) -> list[Job]:
        """Takes what goes together, waiting for more while that may pay."""
        batch: list[Job] = []
        while len(batch) < self._together.most:
            job = self._next([job for job in self._waiting if self._goes_with(batch, job)])
            if job is not None:
                self._take(job, batch)
                continue
            left_ns = self._patience_ns(batch)
            if left_ns <= 0:
                break
            self._gathers = True
            self._pause(leader, left_ns / _NS_PER_S)
            self._gathers = False
        return batch

    def _goes_with(self, batch: Sequence[Job], job: Job) -> bool:
        return not batch or self._together.fits(batch, job)

    def _patience_ns(self, batch: Sequence[Job]) -> int:
        if not batch or len(batch) >= self._expected:
            return 0
        delay_ns = min(self._max_delay_ns, self._ran_ns // PATIENCE)
        began_ns = max(batch[0].arrived_ns, self._ended_ns)
        return began_ns + delay_ns - self._clock_ns()

    def _take(self, job: Job, batch: list[Job]) -> None:
        self._waiting.remove(job)
        job.taken = True
        job.outcome = job.end()
        if job.outcome is None:
            batch.append(job)
        else:
            _wake(job)

    def _run(self, batch: Sequence[Job]) -> None:
        started_ns = self._clock_ns()
        try:
            outcomes = self._together.run(batch) if batch else ()
        except Exception as error:  # every caller's, not the leader's
            outcomes = [error] * len(batch)
        ended_ns = self._clock_ns()
        with self._lock:
            for job, outcome in zip(batch, outcomes, strict=True):
                job.started_ns, job.ended_ns, job.outcome = started_ns, ended_ns, outcome
                _wake(job)
            self._leader = None
            self._expected = len(batch) + len(self._waiting)
            self._ran_ns, self._ended_ns = ended_ns - started_ns, ended_ns
        if batch:
            self._ran(batch)


def _wake(job: Job | None) -> None:
    if job is not None and job.changed is not None:
        job.changed.notify()
