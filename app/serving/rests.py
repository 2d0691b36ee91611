"""Tenants rest after each request while others ask too.

Outside of kernels, decryption and system calls, threads of one interpreter
compute one at a time. Turns decide whose request begins next; they don't keep
somebody with many cheap requests, refused ones for example, from computing
all the time, so that every step of another's request waits. So a tenant's
next request begins only when three times as long has passed as its last one
computed for. Nobody who is alone ever rests.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

REST: Final = 3
"""How much longer than the computing the rest is: a tenant computes for a quarter of the time."""

MOST_NS: Final = 1_000_000
"""Most computing that counts: what goes beyond is a model's, beside which others compute."""

LATELY_NS: Final = 50_000_000
"""How long ago another tenant's request may have come: longer than a client needs to send the
next one."""


class Rests:
    """Who rests for how long. Used under the caller's lock.

    Args:
        clock_ns: a monotonic clock in nanoseconds.
    """

    def __init__(self, clock_ns: Callable[[], int] = time.perf_counter_ns) -> None:
        self._clock_ns = clock_ns
        self._came_ns: dict[str, int] = {}
        """Tenants of the last while, those that came last at the end."""
        self._due_ns: dict[str, int] = {}

    def came(self, tenant: str) -> None:
        """Notes a request that arrived."""
        now_ns = self._clock_ns()
        self._came_ns.pop(tenant, None)
        self._came_ns[tenant] = now_ns
        while now_ns - self._came_ns[first := next(iter(self._came_ns))] >= LATELY_NS:
            del self._came_ns[first]
            self._due_ns.pop(first, None)

    def worked(self, tenant: str, computed_ns: int) -> None:
        """Notes how long a thread computed for a request that has ended."""
        now_ns = self._clock_ns()
        if self._has_company(tenant, now_ns):
            begin_ns = max(now_ns, self._due_ns.get(tenant, 0))
            self._due_ns[tenant] = begin_ns + REST * min(computed_ns, MOST_NS)

    def left_ns(self, tenant: str) -> int:
        """Gives how long the tenant rests from now on; 0 when its next request may begin."""
        now_ns = self._clock_ns()
        left_ns = self._due_ns.get(tenant, 0) - now_ns
        return left_ns if left_ns > 0 and self._has_company(tenant, now_ns) else 0

    def _has_company(self, tenant: str, now_ns: int) -> bool:
        other = next((each for each in reversed(self._came_ns) if each != tenant), None)
        return other is not None and now_ns - self._came_ns[other] < LATELY_NS
