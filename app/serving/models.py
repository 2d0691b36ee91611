"""One version of a model: whether it is loaded, who uses it, and what it did."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from app.card import ModelCard
from app.errors import (
    ApplianceError,
    BundleReadError,
    BundleRefusedError,
    BusyError,
    KeyUnavailableError,
    NotFoundError,
)
from app.limits import FIRST_RETRY_S, MAX_TIMEOUT_US, MOST_RETRY_S
from app.objects import Identity
from app.runner import Runner, RunResult
from app.serving.batching import Batcher, Together
from app.serving.job import Job
from app.serving.shares import Needs
from app.serving.statistics import Recorder, Statistics
from app.tensors import Array, check_inputs

_NS_PER_US = 1000
_NS_PER_S = 1_000_000_000

_PASSING = KeyUnavailableError | BundleReadError
"""Failures that say nothing of the model: what it needs couldn't be had when it was asked for."""


@dataclass(frozen=True, slots=True)
class Verified:
    """What is known of a bundle whose every object authenticated.

    Attributes:
        card: the model's.
        needs: its memory.
        check: refuses it once it has expired, with a BundleRefusedError.
    """

    card: ModelCard
    needs: Needs
    check: Callable[[], None] = lambda: None


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


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """A version in the repository's index.

    Attributes:
        name: the model's; of a bundle that is refused its folder's.
        version: 0 for a bundle that is refused.
        state: the protocol's word; "READY" means that the next request is served, from memory or
            after loading.
        reason: for the state; clients may read it.
        bundle_id: 64 hex digits; empty for a bundle that is refused.
    """

    name: str
    version: int
    state: str
    reason: str
    bundle_id: str = ""


Lease = Callable[
    ["ServedModel", Callable[[], ApplianceError | None]], AbstractContextManager[Batcher]
]
"""Keeps a model loaded while it is used, and loads it first where that is needed, unless the
function says why the request ends before."""


class ServedModel:
    """One version of a model. It outlives being unloaded.

    Args:
        bundle: where it is loaded from.
        lease: of the residence.
        clock_ns: monotonic.

    Attributes:
        recorder: counts what the model does.
        verified: None before its bundle was.
        opened, batcher: while it is loaded.
        share_bytes: its part of the budget, from the beginning of loading on.
        users: requests that use it now.
        used_at: number of its last use; a larger one is later.
        is_wanted: whether requests may use it; False after it was unloaded on request.
        is_draining: whether it is unloaded once its running requests have ended.
        is_leaving: whether it makes room for its new version.
        stays_until_ns: until when other models don't push it out.
        yields_until_ns: until when requests wait, so that another model gets its memory.

    The residence's `changed` guards all that changes, but for the recorder.
    """

    def __init__(
        self, bundle: Bundle, lease: Lease, clock_ns: Callable[[], int] = time.perf_counter_ns
    ) -> None:
        self.bundle = bundle
        self.recorder = Recorder(self.model_id, self.version)
        self._lease = lease
        self._clock_ns = clock_ns
        self.verified: Verified | None = None
        self.opened: Opened | None = None
        self.batcher: Batcher | None = None
        self.share_bytes = self.users = self.used_at = 0
        self.is_wanted = True
        self.is_draining = self.is_leaving = False
        self.stays_until_ns = self.yields_until_ns = 0
        self._failure: ApplianceError | None = None
        self._retry_at_ns, self._retry_pause_s = 0, FIRST_RETRY_S

    @property
    def model_id(self) -> str:
        """As clients address it."""
        return self.bundle.identity.model_id

    @property
    def version(self) -> int:
        """As clients address it."""
        return self.bundle.identity.model_version

    @property
    def bundle_id(self) -> str:
        """The id of the bundle that it is loaded from: 64 hex digits."""
        return self.bundle.identity.bundle_id.hex()

    @property
    def card(self) -> ModelCard:
        """Its tensors, labels and preprocessing; a model that `Catalogue.find` gave has one.

        Raises:
            BusyError: the bundle wasn't verified yet.
        """
        if self.verified is None:
            raise BusyError(f"model {self.model_id!r} wasn't verified yet; try again")
        return self.verified.card

    # --- whether it can be used ----------------------------------------------------------------

    def fail(self, error: ApplianceError) -> None:
        """Notes why it can't be loaded.

        What the appliance found out stays true. What it couldn't find out, as a key or a file
        couldn't be had, a later request finds out: after a pause that doubles each time.
        """
        self._failure = error
        self._retry_at_ns = self._clock_ns() + int(self._retry_pause_s * _NS_PER_S)
        self._retry_pause_s = min(2 * self._retry_pause_s, MOST_RETRY_S)

    def recover(self) -> None:
        """Forgets its failures: it is loaded, or is to be loaded on request."""
        self._failure, self._retry_pause_s = None, FIRST_RETRY_S

    def check(self) -> None:
        """Refuses what requests may not use.

        Raises:
            NotFoundError: it was unloaded on request.
            BusyError: it makes room for its new version.
            ApplianceError: why it can't be served.
        """
        if not self.is_wanted:
            raise NotFoundError(f"model {self.model_id!r} is unloaded; load it first")
        if trouble := self.trouble:
            raise trouble
        if self.is_leaving:
            raise BusyError(f"model {self.model_id!r} makes room for its new version; try again")

    @property
    def trouble(self) -> ApplianceError | None:
        """Why it can't be served: it failed and isn't to be tried again yet, or has expired."""
        is_over = isinstance(self._failure, _PASSING) and self._clock_ns() >= self._retry_at_ns
        if self._failure is not None and not is_over:
            return self._failure
        try:
            if self.verified is not None:
                self.verified.check()
        except BundleRefusedError as error:
            return error
        return None

    @property
    def holds_its_place(self) -> bool:
        """Whether no older version answers for it; one that will be tried again keeps its place."""
        trouble = self.trouble
        return trouble is None or isinstance(trouble, _PASSING)

    @property
    def is_available(self) -> bool:
        """Whether the next request is served, if need be after loading."""
        return self.is_wanted and self.trouble is None

    @property
    def is_loaded(self) -> bool:
        """Whether it takes memory, or is about to."""
        return self.share_bytes > 0

    @property
    def is_idle(self) -> bool:
        """Whether it takes no memory and nobody uses it."""
        return not self.is_loaded and not self.users

    def describe(self) -> tuple[str, str]:
        """Gives the protocol's word for its state, and a reason that clients may read."""
        if trouble := self._failure or self.trouble:  # also while it is about to be tried again
            return "UNAVAILABLE", trouble.client_text
        if self.is_draining:
            return "UNLOADING", "its last requests are running"
        if not self.is_wanted:
            return "UNAVAILABLE", "unloaded on request"
        if self.batcher is not None:
            return "READY", ""
        return ("LOADING", "") if self.is_loaded else ("READY", "loads when it is asked")

    # --- requests ------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Requests that wait for a batch."""
        batcher = self.batcher
        return 0 if batcher is None else batcher.waiting

    def statistics(self) -> Statistics:
        """Gives a copy of its counters and its present state."""
        counters = self.recorder.snapshot()
        counters.waiting, counters.share_bytes = self.waiting, self.share_bytes
        return counters

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
