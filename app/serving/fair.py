"""A bounded queue that gives every tenant the same share. Pure: no clock, no lock.

Tenants that wait take turns, one request each a round, so a tenant that waits is
passed by every other tenant at most once between two of its own turns, however
much the others ask for. Who comes while others wait joins the present round,
unless it had its turn in it already: it waits for the running request, not for
one more of a tenant that was just served. This is start-time fair queueing with
equal weights and costs (Goyal, Vin and Cheng, SIGCOMM 1996). Inside a tenant a
smaller priority number goes first, equal ones in the order of their arrival.

Places are shared alike: when all are taken, the tenant that holds the most of
them gives its last request up for one of a tenant that holds fewer.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Final, Generic, TypeVar

T = TypeVar("T")

MOST_TURNS: Final = 256
"""A round ends after so many turns at the latest: whoever had one of them then goes before tenants
that come anew, however many names those give."""


@dataclass(slots=True)
class _Line(Generic[T]):
    """One tenant.

    Attributes:
        round: in which it has its next turn.
        waiting: a heap of (priority, arrival, request).
        running: how many of its requests run.
    """

    round: int
    waiting: list[tuple[int, int, T]] = field(default_factory=list)
    running: int = 0


class FairQueue(Generic[T]):
    """Requests that wait, by tenant.

    Args:
        places: requests that wait or run, of all tenants together.
        places_per_tenant: requests of one tenant that wait.
        running_per_tenant: requests of one tenant that run at a time.
    """

    def __init__(self, places: int, places_per_tenant: int, running_per_tenant: int) -> None:
        self._places = places
        self._places_per_tenant = places_per_tenant
        self._running_per_tenant = running_per_tenant
        self._lines: dict[str, _Line[T]] = {}
        self._turns: dict[str, None] = {}
        """Tenants with waiting requests, in the order in which they have their turns of a round."""
        self._round = 0
        self._turns_taken = 0
        self._served: dict[str, int] = {}
        """Next rounds of tenants that had their turn in this one, and left."""
        self._arrivals = count()
        self._waiting = 0
        self._running = 0

    def __len__(self) -> int:
        return self._waiting

    @property
    def running(self) -> int:
        """Requests that were taken and aren't done."""
        return self._running

    def offer(self, request: T, tenant: str, priority: int = 0) -> T | None:
        """Adds a request where there is a place for it.

        Args:
            request: compared with nothing.
            tenant: whose it is.
            priority: inside the tenant; the smallest goes first.

        Returns:
            The request that has no place and has to be told so: the given one, or another tenant's
            that gave its place up for it. None when all have one.
        """
        line = self._lines.setdefault(tenant, _Line(self._served.pop(tenant, self._round)))
        refused: T | None = None
        if len(line.waiting) >= self._places_per_tenant:
            refused = request
        elif self._waiting + self._running >= self._places:
            refused = self._displace(len(line.waiting) + 1)
            refused = request if refused is None else refused
        if refused is request:
            self._tidy(tenant)
            return request
        heapq.heappush(line.waiting, (priority, next(self._arrivals), request))
        self._waiting += 1
        line.round = max(line.round, self._round)
        self._turns.setdefault(tenant)
        return refused

    def first(self, fits: Callable[[T], bool] = lambda _: True) -> T | None:
        """Gives the request that `take` would give, and leaves it."""
        tenant = self._next(fits)
        return None if tenant is None else self._lines[tenant].waiting[0][2]

    def take(self, fits: Callable[[T], bool] = lambda _: True, *, is_turn: bool = True) -> T | None:
        """Takes the next request by fair turns; `done` has to follow.

        Args:
            fits: a tenant whose first request doesn't fit is passed over.
            is_turn: whether this was the tenant's turn; if not, it still has it.

        Returns:
            None when nothing waits that fits and whose tenant may run one more.
        """
        tenant = self._next(fits)
        if tenant is None:
            return None
        line = self._lines[tenant]
        request = heapq.heappop(line.waiting)[2]
        line.running += 1
        self._waiting -= 1
        self._running += 1
        if is_turn:
            self._count_turn(line)
        del self._turns[tenant]
        if line.waiting:
            self._turns[tenant] = None
        return request

    def _next(self, fits: Callable[[T], bool]) -> str | None:
        """Finds whose turn it is."""
        ready = (
            tenant
            for tenant in self._turns
            if (line := self._lines[tenant]).running < self._running_per_tenant
            and fits(line.waiting[0][2])
        )
        return min(ready, key=lambda tenant: self._lines[tenant].round, default=None)

    def _count_turn(self, line: _Line[T]) -> None:
        if line.round > self._round:
            self._begin_round(line.round)
        line.round = self._round + 1
        self._turns_taken += 1
        if self._turns_taken >= MOST_TURNS:
            self._begin_round(self._round + 1)

    def _begin_round(self, number: int) -> None:
        self._round = number
        self._turns_taken = 0
        self._served.clear()

    def done(self, tenant: str) -> None:
        """Says that a request of the tenant that was taken has ended."""
        self._lines[tenant].running -= 1
        self._running -= 1
        self._tidy(tenant)

    def withdraw(self, request: T, tenant: str) -> bool:
        """Removes a request that nobody waits for any more; False when it doesn't wait."""
        line = self._lines.get(tenant)
        found = [] if line is None else [each for each in line.waiting if each[2] is request]
        if line is None or not found:
            return False
        line.waiting.remove(found[0])
        heapq.heapify(line.waiting)
        self._waiting -= 1
        self._tidy(tenant)
        return True

    def _displace(self, wanted: int) -> T | None:
        """Removes the last request of the tenant with the most, if that is more than `wanted`."""
        tenant = max(self._turns, key=lambda each: len(self._lines[each].waiting), default=None)
        if tenant is None or len(self._lines[tenant].waiting) <= wanted:
            return None
        line = self._lines[tenant]
        last = max(line.waiting, key=lambda each: each[:2])
        self.withdraw(last[2], tenant)
        return last[2]

    def _tidy(self, tenant: str) -> None:
        """Forgets a tenant that has nothing here, so that names don't pile up."""
        line = self._lines[tenant]
        if not line.waiting:
            self._turns.pop(tenant, None)
        if not line.waiting and not line.running:
            del self._lines[tenant]
            if line.round > self._round:
                self._served[tenant] = line.round
