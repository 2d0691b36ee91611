"""The queue between the event loop and the worker threads.

A request that waits here holds no thread. Workers take the next one by fair
turns between tenants (`app.serving.fair`).
"""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

from app.serving.fair import FairQueue

T = TypeVar("T")


class RequestQueue(Generic[T]):
    """A `FairQueue` for threads. `put` and `get` are those of `queue.Queue` that cheroot calls.

    Args:
        requests: used under a lock from now on.
    """

    def __init__(self, requests: FairQueue[T]) -> None:
        self._requests = requests
        self._marks: list[object] = []
        self._changed = threading.Condition()

    def offer(self, request: T, tenant: str) -> T | None:
        """Adds a request without blocking; see `FairQueue.offer`."""
        with self._changed:
            refused = self._requests.offer(request, tenant)
            # Waking a worker for nothing costs as much as a small request.
            if self._requests.first() is not None:
                self._changed.notify()
        return refused

    def put(self, mark: object, block: bool = True, timeout: float | None = None) -> None:
        """Adds a mark that tells a worker to end; it goes before all requests."""
        with self._changed:
            self._marks.append(mark)
            self._changed.notify()

    def get(self) -> T | object:
        """Waits for the next request, or mark."""
        with self._changed:
            while True:
                if self._marks:
                    return self._marks.pop()
                request = self._requests.take()
                if request is not None:
                    return request
                self._changed.wait()

    def done(self, tenant: str) -> None:
        """Says that a request of the tenant has ended, so that its next one may run.

        The worker that says so comes back to `get`, so no other one is woken for it.
        """
        with self._changed:
            self._requests.done(tenant)

    def qsize(self) -> int:
        """How many requests wait."""
        return len(self._requests)
