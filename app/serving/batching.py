"""Brings requests of one model together that worker threads wait with.

There is no thread for it. One of the waiting workers leads: it takes the
requests that go together, runs them and gives every other worker its result;
then the one leads whose request is next. Only threads that have something to do
are woken: on a small model a needless switch of threads takes as long as a
partition. While a batch runs, the next one gathers by itself. The
leader waits for more only until as many are together as there were at the end of
the batch before, run or waiting, and for a small part of what that one took: a
client that is alone never waits.

A tenant with one request at a time would wait for the batch that runs and then
run as long itself. So where there is memory for both, its request goes in
between two partitions of tenants that have more of them: the leader runs it
before it goes on. That is not the tenant's turn, and the next guest is
let in only once the batch has run for as long as the ones before.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from app.errors import BusyError, MemoryBudgetError
from app.limits import MAX_WAITING
from app.runner import RunResult
from app.serving.fair import FairQueue
from app.serving.job import Job
from app.serving.presence import Presence

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

    def has_room(self, job: Job) -> bool:
        """Whether a request fits beside the batch that runs."""
        ...

    def run(
        self, batch: Sequence[Job], between: Callable[[], None] | None = None
    ) -> Sequence[RunResult | Exception]:
        """Runs a batch; called by one thread at a time.

        Args:
            batch: at most `most`.
            between: called between two partitions; it may call `run` for others.

        Returns:
            For each request its own end.
        """
        ...


@dataclass(slots=True)
class _Host:
    """A batch that others may go in between of.

    Attributes:
        tenants: whose it is.
        began_ns: when.
        guests_ns: how long it has waited for guests.
    """

    tenants: frozenset[str]
    began_ns: int
    guests_ns: int = 0

    def own_ns(self, now_ns: int) -> int:
        """How long it has run itself."""
        return now_ns - self.began_ns - self.guests_ns


class Batcher:
    """Runs the requests that threads bring, several at a time where that pays.

    Args:
        together: runs a batch.
        max_delay_ns: how long a request may be kept waiting for company, from its arrival or the
            end of the batch before.
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
        self._presence = Presence(clock_ns)
        self._lock = threading.Lock()
        self._leader: Job | None = None
        self._gathers = False
        self._expected = 1
        self._ran_ns = 0
        self._ended_ns = 0

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
        job.changed = threading.Condition(self._lock)
        with self._lock:
            self._presence.came(job.tenant)
            self._refuse(self._queue.offer(job, job.tenant, job.priority))
            if self._gathers:
                _wake(self._leader)
        try:
            while self._wait(job):
                with self._lock:
                    batch = self._gather(job)
                self._run(batch)
        finally:
            with self._lock:
                self._presence.left(job.tenant)
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
                    self._queue.withdraw(job, job.tenant)
                    job.outcome = end
            if self._leader is None:
                _wake(self._queue.first())
            return False

    def _pause(self, job: Job, timeout_s: float) -> None:
        """Gives the lock up until the job's thread is woken."""
        if job.changed is not None:
            job.changed.wait(timeout_s)

    def _gather(self, leader: Job) -> list[Job]:
        """Takes what goes together, waiting for more while that may pay."""
        batch: list[Job] = []
        while len(batch) < min(self._together.most, self._presence.most_together()):
            job = self._queue.take(lambda each: not batch or self._together.fits(batch, each))
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

    def _patience_ns(self, batch: Sequence[Job]) -> int:
        if not batch or len(batch) >= self._expected:
            return 0
        delay_ns = min(self._max_delay_ns, self._ran_ns // PATIENCE)
        began_ns = max(batch[0].arrived_ns, self._ended_ns)
        return began_ns + delay_ns - self._clock_ns()

    def _take(self, job: Job, batch: list[Job]) -> None:
        job.taken = True
        job.outcome = job.end()
        if job.outcome is None:
            batch.append(job)
        else:
            self._queue.done(job.tenant)
            _wake(job)

    def _run(self, batch: Sequence[Job]) -> None:
        host = _Host(frozenset(job.tenant for job in batch), self._clock_ns())
        outcomes = self._outcomes(batch, lambda: self._let_in(host)) if batch else ()
        ended_ns = self._clock_ns()
        with self._lock:
            self._end(batch, outcomes, host.began_ns, ended_ns)
            self._leader = None
            self._expected = len(batch) + len(self._queue)
            self._ran_ns, self._ended_ns = host.own_ns(ended_ns), ended_ns
        if batch:
            self._ran(batch)

    def _outcomes(
        self, batch: Sequence[Job], between: Callable[[], None] | None = None
    ) -> Sequence[RunResult | Exception]:
        try:
            return self._together.run(batch, between)
        except Exception as error:  # every caller's, not the leader's
            return [error] * len(batch)

    def _end(
        self,
        batch: Sequence[Job],
        outcomes: Sequence[RunResult | Exception],
        started_ns: int,
        ended_ns: int,
    ) -> None:
        for job, outcome in zip(batch, outcomes, strict=True):
            job.started_ns, job.ended_ns, job.outcome = started_ns, ended_ns, outcome
            self._queue.done(job.tenant)
            _wake(job)

    def _let_in(self, host: _Host) -> None:
        """Runs a guest between two partitions, if one waits for which there is time and room."""
        started_ns = self._clock_ns()
        if not len(self._queue) or host.guests_ns > host.own_ns(started_ns):
            return
        guest: list[Job] = []
        with self._lock:
            job = self._queue.take(lambda each: self._may_go_between(each, host), is_turn=False)
            if job is not None:
                self._take(job, guest)
        if not guest:
            return
        outcomes = self._outcomes(guest)
        ended_ns = self._clock_ns()
        host.guests_ns += ended_ns - started_ns
        with self._lock:
            if isinstance(outcomes[0], MemoryBudgetError):
                self._send_back(guest[0])
                return
            self._end(guest, outcomes, started_ns, ended_ns)
        self._ran(guest)

    def _may_go_between(self, job: Job, host: _Host) -> bool:
        is_quieter = self._presence.is_quieter(job.tenant, host.tenants)
        return is_quieter and not job.crowded and self._together.has_room(job)

    def _send_back(self, job: Job) -> None:
        """Lets a guest wait for its turn that needed more room than it looked."""
        self._queue.done(job.tenant)
        job.taken, job.crowded = False, True
        self._refuse(self._queue.offer(job, job.tenant, job.priority))

    def _refuse(self, job: Job | None) -> None:
        if job is not None:
            job.outcome = BusyError("too many requests wait for the model")
            _wake(job)


def _wake(job: Job | None) -> None:
    if job is not None and job.changed is not None:
        job.changed.notify()
