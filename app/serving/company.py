"""Whether other tenants ask too."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

LATELY_NS: Final = 1_000_000_000
"""How long ago another tenant's request may have come: longer than most requests take, so that who
waits for an answer counts."""


class Company:
    """Tenants whose requests came lately. Used under the caller's lock.

    Args:
        clock_ns: a monotonic clock in nanoseconds.
    """

    def __init__(self, clock_ns: Callable[[], int] = time.perf_counter_ns) -> None:
        self._clock_ns = clock_ns
        self._came_ns: dict[str, int] = {}
        """Who came last is at the end."""

    def came(self, tenant: str) -> list[str]:
        """Notes a request; gives the tenants that are forgotten now."""
        now_ns = self._clock_ns()
        self._came_ns.pop(tenant, None)
        self._came_ns[tenant] = now_ns
        forgotten = []
        while now_ns - self._came_ns[first := next(iter(self._came_ns))] >= LATELY_NS:
            del self._came_ns[first]
            forgotten.append(first)
        return forgotten

    def has(self, tenant: str) -> bool:
        """Says whether another tenant came lately."""
        other = next((each for each in reversed(self._came_ns) if each != tenant), None)
        return other is not None and self._clock_ns() - self._came_ns[other] < LATELY_NS
