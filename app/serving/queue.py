"""The queue between the event loop and the worker threads.

A request that waits here holds no thread. Workers take the next one by fair
turns between tenants (`app.serving.fair`), of tenants that don't rest
(`app.serving.rests`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from app.serving.fair import FairQueue
from app.serving.rests import Rests

T = TypeVar("T")

_NS_PER_S: Final = 1_000_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Waiting(Generic[T]):
    """A request and whose it is."""

    tenant: str
    request: T


_Choose = Callable[[Callable[[Waiting[T]], bool]], Waiting[T] | None]


class RequestQueue(Generic[T]):
    """A `FairQueue` for threads. `put` and `get` are those of `queue.Queue` that cheroot calls.

    Args:
        requests: used under a lock from now on.
        rests: likewise.
    """

    def __init__(self, requests: FairQueue[Waiting[T]], rests: Rests | None = None) -> None:
        self._requests = requests
        self._rests = rests or Rests()
        self._marks: list[object] = []
        self._changed = threading.Condition()
        self._is_watched = False
        """Whether a worker waits for the first rest to end."""

    def offer(self, request: T, tenant: str) -> T | None:
        """Adds a request without blocking; see `FairQueue.offer`."""
        with self._changed:
            self._rests.came(tenant)
            refused = self._requests.offer(Waiting(tenant, request), tenant)
            if refused is not None:
                self._rests.left(refused.tenant)
            # Waking a worker for nothing costs as much as a small request.
            first, rest_ns = self._look(self._requests.first)
            if first is not None or (rest_ns and not self._is_watched):
                self._changed.notify()
        return None if refused is None else refused.request

    def put(self, mark: object, block: bool = True, timeout: float | None = None) -> None:
        """Adds a mark that tells a worker to end; it goes before all requests."""
        with self._changed:
            self._marks.append(mark)
            self._changed.notify()

    def get(self) -> T | object:
        """Waits for the next request, or mark."""
        watched = False
        with self._changed:
            while not self._marks:
                found, rest_ns = self._look(self._requests.take)
                if found is None:
                    watched = self._wait(rest_ns)
                    continue
                if (watched or rest_ns) and not self._is_watched:
                    self._changed.notify()  # for what else may begin now, or to watch on
                return found.request
            return self._marks.pop()

    def done(self, tenant: str, computed_ns: int = 0) -> None:
        """Says that a request of the tenant has ended, so that its next one may run.

        The worker that says so comes back to `get`, so no other one is woken for it.

        Args:
            tenant: as it was offered.
            computed_ns: what the worker's thread computed for it.
        """
        with self._changed:
            self._requests.done(tenant)
            self._rests.left(tenant, computed_ns)

    def qsize(self) -> int:
        """How many requests wait."""
        return len(self._requests)

    def _look(self, choose: _Choose[T]) -> tuple[Waiting[T] | None, int]:
        """Gives the request that may begin, and how long the first of the others rests, or 0."""
        rests_ns = []

        def may_begin(waiting: Waiting[T]) -> bool:
            left_ns = self._rests.left_ns(waiting.tenant)
            if left_ns:
                rests_ns.append(left_ns)
            return not left_ns

        return choose(may_begin), min(rests_ns, default=0)

    def _wait(self, rest_ns: int) -> bool:
        """Waits for a change; one worker at a time also for the end of a rest, and gives True."""
        if not rest_ns or self._is_watched:
            self._changed.wait()
            return False
        self._is_watched = True
        self._changed.wait(rest_ns / _NS_PER_S)
        self._is_watched = False
        return True
