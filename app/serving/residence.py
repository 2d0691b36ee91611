"""Which models are in memory, inside one budget.

A model is loaded when it is first asked for, and unloaded when another one
needs its memory and it is the one whose last use is longest ago. Requests hold
it while they use it, so it never goes while it is in use.

Two models that don't fit together take turns: whoever needs the memory waits
until the other one has been there for some times as long as its loading took,
then requests to that one wait in turn. So loading never takes more than a small
part of the time, whoever asks for what.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from typing import Final

from app.errors import ApplianceError, BusyError, ExecutionError, MemoryBudgetError
from app.limits import DRAIN_TIMEOUT_S, MAX_LOADED_MODELS, ROOM_TIMEOUT_S
from app.serving.accounts import Accounts
from app.serving.batching import Batcher
from app.serving.models import ServedModel, Verified
from app.serving.shares import Needs, fair_share, to_unload

_LOOK_S: Final = 0.05
"""How often a request that waits for loading is asked whether it still needs to."""

_LOOK_FOR_ROOM_S: Final = 0.01
"""How often a request that waits for memory looks whether it is there: nobody says when a stay is
over."""

_YIELD_NS: Final = 200_000_000
"""How long a model lets nobody in for one that waits for its memory and looks every `_LOOK_S`."""

STAY: Final = 4
"""A model stays for this many times its loading: a fifth of the time goes for loading at most."""


class Residence:
    """Loads and unloads models. Callable from any thread.

    Args:
        budget_bytes: bound on the memory of all loaded models together.
        accounts: whose request goes next.
        max_delay_ns: how long a request may be kept waiting for company.
        report: takes lines for people.
        clock_ns: monotonic.
        drain_timeout_s: how long a version may be drained before its successor is given up.
        room_timeout_s: how long a request may wait for memory that others have.

    Attributes:
        loading: held while a model is verified or loaded, so one at a time; taken before `changed`.
        changed: guards what models say of themselves.
        sharers: models that share the budget, loaded or not.
    """

    def __init__(
        self,
        budget_bytes: int,
        *,
        accounts: Accounts | None = None,
        max_delay_ns: int = 0,
        report: Callable[[str], None] = lambda _: None,
        clock_ns: Callable[[], int] = time.perf_counter_ns,
        drain_timeout_s: float = DRAIN_TIMEOUT_S,
        room_timeout_s: float = ROOM_TIMEOUT_S,
    ) -> None:
        self.budget_bytes = budget_bytes
        self.loading = threading.RLock()
        self.changed = threading.Condition()
        self.sharers = 1
        self._accounts = accounts or Accounts(clock_ns)
        self._max_delay_ns = max_delay_ns
        self._report = report
        self._clock_ns = clock_ns
        self._drain_timeout_s = drain_timeout_s
        self._room_timeout_ns = round(room_timeout_s * 1e9)
        self._loaded: list[ServedModel] = []
        self._uses = count(1)

    @property
    def used_bytes(self) -> int:
        """The part of the budget that loaded models have."""
        with self.changed:
            return sum(model.share_bytes for model in self._loaded)

    # --- using ---------------------------------------------------------------------------------

    @contextmanager
    def lease(
        self, model: ServedModel, end: Callable[[], ApplianceError | None] = lambda: None
    ) -> Iterator[Batcher]:
        """Keeps a model loaded while it is used, and loads it first where that is needed.

        Args:
            model: it.
            end: says why the request needn't wait for loading any more, None while it does. A
                load that this thread has begun comes to its end: others will want the model.

        Raises:
            ApplianceError: what `end` gave, or as `ServedModel.check` and `open` do.
        """
        batcher = self._enter(model, end)
        try:
            yield batcher
        finally:
            with self.changed:
                model.users -= 1
                if not model.users and model.is_draining:
                    self._close(model)
                self.changed.notify_all()

    def _enter(self, model: ServedModel, end: Callable[[], ApplianceError | None]) -> Batcher:
        gives_up_ns = self._clock_ns() + self._room_timeout_ns
        batcher = self._use(model)
        while batcher is None:
            if over := end():
                raise over
            if not self.loading.acquire(timeout=_LOOK_S):
                batcher = self._use(model)  # loaded meanwhile, while another one loads now
                continue
            try:
                batcher = self._use(model)
                if batcher is None:
                    self.open(model, self._has_stayed)
                    batcher = self._use(model)
            except BusyError:
                if self._clock_ns() >= gives_up_ns:
                    raise
            finally:
                self.loading.release()
            if batcher is None:
                with self.changed:
                    self.changed.wait(_LOOK_FOR_ROOM_S)
        return batcher

    def _use(self, model: ServedModel) -> Batcher | None:
        """Counts a user of a loaded model; None when it isn't loaded, or has to make room."""
        with self.changed:
            model.check()
            if model.batcher is None or self._clock_ns() < model.yields_until_ns:
                return None
            model.users += 1
            model.used_at = next(self._uses)
            return model.batcher

    def _has_stayed(self, model: ServedModel) -> bool:
        return self._clock_ns() >= model.stays_until_ns

    # --- loading, with `loading` held ----------------------------------------------------------

    def verify(self, model: ServedModel) -> Verified:
        """Authenticates a model's bundle, once.

        Raises:
            ApplianceError: it doesn't hold; the model has failed.
        """
        with self.changed:
            if trouble := model.trouble:  # of one who tried while this thread waited, for example
                raise trouble
        if model.verified is None:
            try:
                verified = model.bundle.verify()
            except Exception as error:
                raise self._fail(model, error) from error
            with self.changed:
                model.verified = verified
        return model.verified

    def open(self, model: ServedModel, may_go: Callable[[ServedModel], bool]) -> None:
        """Verifies a model and loads it into a share of the budget, if it isn't loaded.

        Args:
            model: it.
            may_go: which other models may be unloaded for it.

        Raises:
            BusyError: others have the memory that it needs. Those that may go let no further
                request in for a moment, so that another try finds them idle.
            ApplianceError: it can't be loaded; it has failed.
        """
        needs = self.verify(model).needs
        if model.is_loaded:
            return
        with self.changed:
            model.share_bytes = self._make_room(model, needs, may_go)
            self._loaded.append(model)
        started_ns = self._clock_ns()
        try:
            opened = model.bundle.open(model.share_bytes)
        except Exception as error:
            raise self._fail(model, error) from error
        load_ns = self._clock_ns() - started_ns
        model.recorder.loaded(load_ns)
        with self.changed:
            model.recover()
            model.opened = opened
            model.batcher = Batcher(
                opened.together,
                self._accounts,
                self._max_delay_ns,
                clock_ns=self._clock_ns,
                ran=model.recorder.ran,
            )
            model.stays_until_ns = started_ns + load_ns + STAY * load_ns
            model.used_at = next(self._uses)
            if not model.is_wanted:  # unloaded on request meanwhile
                self._close(model)
        self._report(f"model {model.model_id} version {model.version}: {opened.summary}")

    def open_on_request(self, model: ServedModel, old: ServedModel | None) -> None:
        """Loads a version beside the old one; instead of it where both don't fit.

        Other models needn't have stayed long. The old one comes back if the new one fails.

        Raises:
            BusyError: requests use the old one for too long, or others use the memory.
            ApplianceError: the new one can't be loaded; the old one serves on.
        """
        try:
            self.open(model, lambda other: other is not old)
        except BusyError:
            if old is None or old is model or not old.is_loaded:
                raise
        else:
            return
        try:
            with self.changed:
                old.is_leaving = True
                if not self.changed.wait_for(lambda: not old.users, self._drain_timeout_s):
                    raise BusyError(f"model {old.model_id!r} is in use; try again")
                self._close(old)
            try:
                self.open(model, self._has_stayed)
            except ApplianceError:
                with suppress(ApplianceError):  # its next request tries again
                    self.open(old, self._has_stayed)
                raise
        finally:
            with self.changed:
                old.is_leaving = False

    def _make_room(
        self, model: ServedModel, needs: Needs, may_go: Callable[[ServedModel], bool]
    ) -> int:
        """Unloads models as far as needed and gives the share of the budget."""
        least_bytes = min(needs.least_bytes, self.budget_bytes)
        candidates = [other for other in self._loaded if may_go(other)]
        candidates.sort(key=lambda other: (other.users > 0, other.used_at))
        number = to_unload(
            self.budget_bytes - self.used_bytes,
            MAX_LOADED_MODELS - len(self._loaded),
            [other.share_bytes for other in candidates],
            least_bytes,
        )
        leaving = [] if number is None else candidates[:number]
        in_use = [other for other in leaving if other.users]
        for other in in_use:
            other.yields_until_ns = self._clock_ns() + _YIELD_NS
        if number is None or in_use:
            raise BusyError(
                f"model {model.model_id!r} needs {least_bytes} bytes of memory that other models "
                "have at the moment; try again"
            )
        for other in leaving:
            self._close(other)
        wanted_bytes = fair_share(self.budget_bytes, self.sharers, needs)
        return min(wanted_bytes, self.budget_bytes - self.used_bytes)

    def _fail(self, model: ServedModel, error: Exception) -> ApplianceError:
        """Notes why a model can't be loaded; gives what to raise."""
        if isinstance(error, MemoryBudgetError):
            # Another error than a request's that is too large: no request can be served.
            failure: ApplianceError = ExecutionError(
                error.partition,
                error.phase,
                f"needs {error.required_bytes} bytes, the budget is {error.budget_bytes} bytes",
            )
        elif isinstance(error, ApplianceError):
            failure = error
        else:
            failure = ExecutionError(0, "load", f"unexpected {type(error).__name__}")
        with self.changed:
            self._close(model)
            model.fail(failure)
        return failure

    # --- unloading -----------------------------------------------------------------------------

    def drain(self, model: ServedModel) -> None:
        """Unloads a model as soon as no request uses it."""
        with self.changed:
            if model.batcher is not None:
                model.is_draining = True
                if not model.users:
                    self._close(model)

    def _close(self, model: ServedModel) -> None:
        """Gives a model's memory back, with `changed` held."""
        if model.opened is not None:
            model.opened.runner.close()
        model.opened = model.batcher = None
        model.share_bytes = model.stays_until_ns = model.yields_until_ns = 0
        model.is_draining = False
        if model in self._loaded:
            self._loaded.remove(model)
        self.changed.notify_all()
