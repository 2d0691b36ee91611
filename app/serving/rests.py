"""Busy tenants rest after each request while others ask too.

Outside of kernels, decryption and system calls, threads of one interpreter
compute one at a time. Turns decide whose request begins next; they don't keep
somebody with many cheap requests, refused ones for example, from computing
all the time, so that every step of another's request waits. So the next
request of a tenant begins only when three times as long has passed as its last
one computed for. The tenant with the fewest requests at a time never rests.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from app.serving.presence import Presence

REST: Final = 3
"""How much longer than the computing the rest is: a tenant computes for a quarter of the time."""

MOST_NS: Final = 1_000_000
"""Most computing that counts: what goes beyond is a model's, beside which others compute."""

LATELY_NS: Final = 1_000_000_000
"""How long another tenant counts after its last request, at the least."""


class Rests:
    """Who rests for how long. Used under the caller's lock.

    Args:
        clock_ns: a monotonic clock in nanoseconds.
    """

    def __init__(self, clock_ns: Callable[[], int] = time.perf_counter_ns) -> None:
        self._clock_ns = clock_ns
        self._presence = Presence(clock_ns, LATELY_NS)
        self._due_ns: dict[str, int] = {}

    def came(self, tenant: str) -> None:
        """Notes a request; `left` has to follow."""
        self._presence.came(tenant)

    def left(self, tenant: str, computed_ns: int = 0) -> None:
        """Notes that a request has ended.

        Args:
            tenant: whose it was.
            computed_ns: how long a thread computed for it.
        """
        now_ns = self._clock_ns()
        self._due_ns = {each: due for each, due in self._due_ns.items() if due > now_ns}
        if self._presence.is_busier(tenant):
            begin_ns = self._due_ns.get(tenant, now_ns)
            self._due_ns[tenant] = begin_ns + REST * min(computed_ns, MOST_NS)
        self._presence.left(tenant)

    def left_ns(self, tenant: str) -> int:
        """Gives how long the tenant rests from now on; 0 when its next request may begin."""
        left_ns = self._due_ns.get(tenant, 0) - self._clock_ns()
        return left_ns if left_ns > 0 and self._presence.is_busier(tenant) else 0
