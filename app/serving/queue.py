"""The queue between the event loop and the worker threads.

A request that waits here holds no thread. Workers take the next one in the order of their clients'
standing, and of no client more at a time than `app.serving.accounts` lets run.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from app.serving.accounts import Accounts
from app.serving.pool import Pool

T = TypeVar("T")

_NS_PER_S: Final = 1_000_000_000

_SPARE_WORKER_FROM: Final = 3
"""With so many workers one is always left by a client; with fewer a client would have only one."""

REST: Final = 3
"""How much longer than its request took a client rests that has more waiting, while others ask: a
flood of requests that cost little, refused ones for example, leaves others the interpreter."""

MOST_NS: Final = 2_000_000
"""Most of a request that counts for a rest: what goes beyond is a model's, beside which others
compute."""

_LOOK_AGAIN_S: Final = 0.25
"""How often a worker looks at requests that mayn't begin: others may be gone meanwhile."""


@dataclass(slots=True, eq=False)
class Turn(Generic[T]):
    """A request and whose it is.

    Attributes:
        request: opaque here.
        client: as `Accounts` tells them apart.
        expected_ns: what its client was charged in advance.
    """

    request: T
    client: str
    expected_ns: int = 0


class RequestQueue(Generic[T]):
    """Requests that wait for one of some threads.

    Args:
        accounts: who has how many requests, and who goes next.
        workers: threads that take requests.
        places: requests that wait, of all clients together.
        clock_ns: a monotonic clock in nanoseconds.
    """

    def __init__(
        self,
        accounts: Accounts,
        workers: int,
        places: int,
        clock_ns: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self._clock_ns = clock_ns
        self._accounts = accounts
        self._places = Pool(places)
        self._most_running = workers - 1 if workers >= _SPARE_WORKER_FROM else workers
        self._lines: dict[str, deque[Turn[T]]] = {}
        self._running: Counter[str] = Counter()
        self._rest_ends_ns: dict[str, int] = {}
        """Of clients with requests that wait."""
        self._changed = threading.Condition()
        self._has_ended = False

    def __len__(self) -> int:
        return self._places.used

    def offer(self, request: T, client: str) -> bool:
        """Adds a request without blocking; False when its client has no place for it."""
        with self._changed:
            if not self._places.take(client, 1):
                return False
            self._accounts.came(client)
            self._lines.setdefault(client, deque()).append(Turn(request, client))
            # Waking a worker for nothing costs as much as a small request.
            if self._may_begin(client):
                self._changed.notify()
            return True

    def take(self) -> Turn[T] | None:
        """Waits for the next request; `done` has to follow. None when the queue has ended."""
        with self._changed:
            while not self._has_ended:
                ready = [client for client in self._lines if self._may_begin(client)]
                if not ready:
                    self._changed.wait(self._patience_s())
                    continue
                turn = self._begin(min(ready, key=self._accounts.standing))
                if len(ready) > 1 or (turn.client in self._lines and self._may_begin(turn.client)):
                    self._changed.notify()  # for what else may begin
                return turn
            return None

    def done(self, turn: Turn[T], cost_ns: int) -> None:
        """Says that a request has ended, so that its client's next one may run.

        The worker that says so comes back to `take`, so no other one is woken for it.

        Args:
            turn: as `take` gave it.
            cost_ns: what its thread computed for it.
        """
        with self._changed:
            self._running[turn.client] -= 1
            if not self._running[turn.client]:
                del self._running[turn.client]
            self._accounts.left(turn.client)
            self._accounts.end(turn.client, turn.expected_ns, cost_ns)
            if turn.client in self._lines and self._accounts.others_requests(turn.client):
                rest_ns = REST * min(cost_ns, MOST_NS)
                self._rest_ends_ns[turn.client] = self._clock_ns() + rest_ns

    def end(self) -> None:
        """Sends every thread home that waits, or comes to wait."""
        with self._changed:
            self._has_ended = True
            self._changed.notify_all()

    def _patience_s(self) -> float | None:
        """How long a worker waits that finds nothing to do."""
        if not self._lines:
            return None
        now_ns = self._clock_ns()
        rests_ns = [end_ns - now_ns for end_ns in self._rest_ends_ns.values() if end_ns > now_ns]
        return min(_LOOK_AGAIN_S, min(rests_ns, default=_NS_PER_S) / _NS_PER_S)

    def _may_begin(self, client: str) -> bool:
        running = self._running[client]
        is_resting = self._clock_ns() < self._rest_ends_ns.get(client, 0)
        if running >= self._most_running or is_resting:
            return False
        others = self._accounts.others_requests(client) if running else 0
        return not others or running < others

    def _begin(self, client: str) -> Turn[T]:
        line = self._lines[client]
        turn = line.popleft()
        if not line:
            del self._lines[client]
            self._rest_ends_ns.pop(client, None)
        self._places.give_back(client, 1)
        self._running[client] += 1
        turn.expected_ns = self._accounts.begin(client)
        return turn
