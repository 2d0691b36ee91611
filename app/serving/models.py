"""One version of a model: whether it is loaded, who uses it, and what it did."""

from __future__ import annotations

import enum
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from app.card import ModelCard
from app.errors import ApplianceError, BusyError, NotFoundError, client_text
from app.limits import MAX_TIMEOUT_US
from app.objects import Identity
from app.runner import Runner, RunResult
from app.serving.batching import Batcher, Together
from app.serving.job import Job
from app.serving.shares import Needs
from app.serving.statistics import Recorder, Statistics
from app.tensors import Array, check_inputs

_NS_PER_US = 1000
_NS_PER_MS = 1_000_000


class State(enum.Enum):
    """What a model version is doing."""

    UNLOADED = "unloaded"
    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    """Its running requests end, then it is unloaded."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Verified:
    """What is known of a bundle whose every object authenticated.

    Attributes:
        card: the model's.
        needs: its memory.
    """

    card: ModelCard
    needs: Needs


@dataclass(frozen=True, slots=True)
class Opened:
    """A model in memory.

    Attributes:
        runner: what runs it.
        together: how it runs several requests; uses the runner.
        summary: a line for people.
    """

    runner: Runner
    together: Together
    summary: str


class Bundle(Protocol):
    """A bundle that a model version can be loaded from; its owner signed the manifest."""

    @property
    def identity(self) -> Identity:
        """Model id, version and the bundle's own id."""
        ...

    def verify(self) -> Verified:
        """Authenticates every object once.

        Raises:
            BundleError: one doesn't hold.
            KeyUnavailableError: the model key can't be had.
        """
        ...

    def open(self, budget_bytes: int) -> Opened:
        """Loads the model into a budget of its own.

        Raises:
            MemoryBudgetError: it can't run within it.
            ApplianceError: what else reading or opening it raises.
        """
        ...


@dataclass(frozen=True, slots=True)
class Scan:
    """What looking for bundles found.

    Attributes:
        bundles: those whose manifest holds.
        refused: the others: what they are called, and why.
    """

    bundles: Sequence[Bundle]
    refused: Sequence[tuple[str, ApplianceError]] = ()


@dataclass(slots=True)
class Life:
    """What `app.serving.residence` keeps of a model version, under its lock.

    Attributes:
        state: what it does.
        verified: None before its bundle was.
        opened, batcher: while it is loaded.
        share_bytes: its part of the budget while it is loaded.
        users: requests that use it now.
        used_at: number of its last use; a larger one is later.
        is_wanted: whether requests may use it; False after it was unloaded on request.
        is_leaving: whether it makes room for its new version.
        stays_until_ns: until when other models don't push it out.
        yields_until_ns: until when requests wait, so that another model gets its memory.
        failure: why it can't be loaded.
    """

    state: State = State.UNLOADED
    verified: Verified | None = None
    opened: Opened | None = None
    batcher: Batcher | None = None
    share_bytes: int = 0
    users: int = 0
    used_at: int = 0
    is_wanted: bool = True
    is_leaving: bool = False
    stays_until_ns: int = 0
    yields_until_ns: int = 0
    failure: ApplianceError | None = None

    def forgive(self) -> None:
        """Lets requests use it again after a failure, or after it was unloaded on request."""
        self.is_wanted, self.failure = True, None
        if self.state is State.FAILED:
            self.state = State.UNLOADED

    def check(self, model_id: str) -> None:
        """Refuses what requests may not use.

        Raises:
            NotFoundError: it was unloaded on request.
            BusyError: it makes room for its new version.
            ApplianceError: why it can't be loaded.
        """
        if not self.is_wanted:
            raise NotFoundError(f"model {model_id!r} is unloaded; load it first")
        if self.failure is not None:
            raise self.failure
        if self.is_leaving:
            raise BusyError(f"model {model_id!r} makes room for its new version; try again")

    def describe(self) -> tuple[str, str]:
        """Gives the protocol's word for its state, and a reason."""
        if self.failure is not None:
            return "UNAVAILABLE", client_text(self.failure)
        if self.state is State.DRAINING:
            return "UNLOADING", "its last requests are running"
        if not self.is_wanted:
            return "UNAVAILABLE", "unloaded on request"
        if self.state is State.LOADING:
            return "LOADING", ""
        return "READY", "" if self.state is State.READY else "loads when it is asked"


Lease = Callable[
    ["ServedModel", Callable[[], ApplianceError | None]], AbstractContextManager[Batcher]
]
"""Keeps a model loaded while it is used, and loads it first where that is needed, unless the
function says why the request ends before."""


class ServedModel:
    """One version of a model, as the routes see it. It outlives being unloaded.

    Args:
        bundle: where it is loaded from.
        lease: given by the catalogue.
        clock_ns: monotonic.

    Attributes:
        life: the catalogue's.
        recorder: counts what the model does.
    """

    def __init__(
        self, bundle: Bundle, lease: Lease, clock_ns: Callable[[], int] = time.perf_counter_ns
    ) -> None:
        self.bundle = bundle
        self.life = Life()
        self.recorder = Recorder(self.model_id, self.version)
        self._lease = lease
        self._clock_ns = clock_ns

    @property
    def model_id(self) -> str:
        """As clients address it."""
        return self.bundle.identity.model_id

    @property
    def version(self) -> int:
        """As clients address it."""
        return self.bundle.identity.model_version

    @property
    def card(self) -> ModelCard:
        """Its tensors, labels and preprocessing; a model that `Catalogue.find` gave has one.

        Raises:
            BusyError: the bundle wasn't verified yet.
        """
        return self._verified.card

    @property
    def needs(self) -> Needs:
        """Its memory; as `card`."""
        return self._verified.needs

    @property
    def state(self) -> State:
        """What it is doing."""
        return self.life.state

    @property
    def is_available(self) -> bool:
        """Whether the next request is served, if need be after loading."""
        return self.life.is_wanted and self.life.failure is None

    @property
    def is_loaded(self) -> bool:
        """Whether it takes memory, or is about to."""
        return self.life.share_bytes > 0

    @property
    def waiting(self) -> int:
        """Requests that wait for a batch."""
        batcher = self.life.batcher
        return 0 if batcher is None else batcher.waiting

    @property
    def _verified(self) -> Verified:
        if self.life.verified is None:
            raise BusyError(f"model {self.model_id!r} wasn't verified yet; try again")
        return self.life.verified

    def statistics(self) -> Statistics:
        """Gives a copy of its counters and its present state."""
        found = self.recorder.snapshot()
        found.waiting, found.share_bytes = self.waiting, self.life.share_bytes
        return found

    def infer(
        self,
        inputs: Mapping[str, Array],
        *,
        tenant: str,
        timeout_us: int | None = None,
        priority: int = 0,
        gone: Callable[[], bool] = lambda: False,
        queued_ns: int = 0,
    ) -> RunResult:
        """Runs one request, alone or with others that wait.

        Args:
            inputs: one array per model input.
            tenant: whose request it is; tenants take turns.
            timeout_us: from its arrival at the server; None or 0 for no deadline.
            priority: among the tenant's requests; 1 goes first, 0 (not given) last.
            gone: whether nobody waits for the answer any more.
            queued_ns: how long it has waited for a worker already.

        Raises:
            InputError: the inputs aren't what the model card says; nothing was loaded.
            NotFoundError: it was unloaded on request.
            BusyError: too many wait, or others use the memory that it needs.
            DeadlineError: the timeout passed.
            CancelledError: nobody waits any more.
            ApplianceError: as `Runner.run_each` gives or raises.
        """
        arrived_ns = self._clock_ns() - queued_ns
        try:
            check_inputs(self.card.inputs, inputs)
            job = Job(
                inputs=inputs,
                client=tenant,
                priority=priority if priority > 0 else _LAST,
                gone=gone,
                arrived_ns=arrived_ns,
                deadline_ns=_deadline_ns(arrived_ns, timeout_us),
                clock_ns=self._clock_ns,
            )
            with self._lease(self, job.end) as batcher:
                result = batcher.run(job)
        except ApplianceError as error:
            self.recorder.failed(error, self._clock_ns() - arrived_ns)
            raise
        infer_ns = job.ended_ns - job.started_ns
        self.recorder.succeeded(job.ended_ns - arrived_ns, job.started_ns - arrived_ns, infer_ns)
        return result


_LAST = 1 << 32
"""After every priority that a request can give."""


def _deadline_ns(arrived_ns: int, timeout_us: int | None) -> int | None:
    return arrived_ns + min(timeout_us, MAX_TIMEOUT_US) * _NS_PER_US if timeout_us else None
