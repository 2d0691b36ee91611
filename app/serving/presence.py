"""Who asked lately, and with how many requests at a time.

A batch answers all of its requests at its end, and whoever comes while it runs
waits for that. A tenant with many requests makes large batches; a tenant with
one request at a time would wait for such a batch to end and then run in
another. So a batch is no larger than what all tenants but the busiest would
make by themselves: with at most that to wait for, and the same for the own
batch, the busiest can't more than double the others' times.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

LATELY_NS: Final = 10_000_000_000
"""How long a tenant that asks no more is counted, at the least; at the most twice as long."""

FAR_FEWER: Final = 4
"""One request at a time is far fewer than four. Between tenants closer than that turns are fair."""


class Presence:
    """Counts the requests that tenants have at a time. Used under the caller's lock.

    Args:
        clock_ns: a monotonic clock in nanoseconds.
        lately_ns: see `LATELY_NS`.
    """

    def __init__(
        self, clock_ns: Callable[[], int] = time.perf_counter_ns, lately_ns: int = LATELY_NS
    ) -> None:
        self._clock_ns = clock_ns
        self._lately_ns = lately_ns
        self._here: Counter[str] = Counter()
        self._most: Counter[str] = Counter()
        self._most_before: Counter[str] = Counter()
        self._began_ns = clock_ns()

    def came(self, tenant: str) -> None:
        """Notes a request; `left` has to follow."""
        self._turn()
        self._here[tenant] += 1
        self._most[tenant] = max(self._most[tenant], self._here[tenant])

    def left(self, tenant: str) -> None:
        """Notes that a request has its answer."""
        self._turn()  # after a batch that took longer than all of it, those that were in it count
        self._here[tenant] -= 1
        self._here += Counter()

    def most_together(self) -> int:
        """Gives how many requests may run together; 0 when nobody asked lately."""
        self._turn()
        lately = self._most | self._most_before
        busiest = max(lately.values(), default=0)
        return lately.total() - busiest if len(lately) > 1 else busiest

    def has_others(self, tenant: str) -> bool:
        """Says whether another tenant asked lately."""
        self._turn()
        return any(each != tenant for each in (*self._most, *self._most_before))

    def excess(self, tenant: str) -> float:
        """Gives how many times more requests at a time a tenant had lately than the quietest one.

        0 is as many, 1 twice as many.
        """
        self._turn()
        lately = self._most | self._most_before
        fewest = min(lately.values(), default=0)
        return max(0.0, lately[tenant] / fewest - 1) if fewest else 0.0

    def is_quieter(self, tenant: str, others: Iterable[str]) -> bool:
        """Says whether a tenant had far fewer requests at a time lately than each of the others."""
        self._turn()
        lately = self._most | self._most_before
        return all(lately[tenant] * FAR_FEWER <= lately[other] for other in others)

    def _turn(self) -> None:
        """Begins the next stretch of time when the present one is over."""
        passed_ns = self._clock_ns() - self._began_ns
        if passed_ns < self._lately_ns:
            return
        self._most_before = self._most if passed_ns < 2 * self._lately_ns else Counter()
        self._most = self._here.copy()
        self._began_ns += passed_ns
