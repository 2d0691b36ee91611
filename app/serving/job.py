"""One request on its way through a model."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from app.errors import CancelledError, DeadlineError
from app.runner import RunResult
from app.tensors import Array


@dataclass(slots=True, eq=False, kw_only=True)
class Job:
    """A request that waits or runs.

    Attributes:
        inputs: checked.
        client: whose it is, as `app.serving.accounts` tells them apart.
        priority: among the client's own; the smallest goes first.
        gone: whether nobody waits for the answer any more; cheap, callable from any thread.
        arrived_ns: on `clock_ns`.
        deadline_ns: on `clock_ns`; None for no deadline.
        clock_ns: monotonic.
        taken: whether it is in a batch already.
        started_ns, ended_ns: of the run, on `clock_ns`.
        outcome: the end of it.
        changed: wakes the thread that waits with it; the batcher's.
    """

    inputs: Mapping[str, Array]
    client: str
    priority: int = 0
    gone: Callable[[], bool] = lambda: False
    arrived_ns: int = 0
    deadline_ns: int | None = None
    clock_ns: Callable[[], int] = time.perf_counter_ns
    taken: bool = False
    started_ns: int = 0
    ended_ns: int = 0
    outcome: RunResult | Exception | None = None
    changed: threading.Condition | None = None

    def end(self) -> CancelledError | None:
        """Says why this needn't go on: None while somebody waits and there is time left."""
        if self.gone():
            return CancelledError(0)
        if self.deadline_ns is not None and self.clock_ns() >= self.deadline_ns:
            return DeadlineError(0)
        return None
