"""Busy tenants rest after each request while others ask too.

Outside of kernels, decryption and system calls, threads of one interpreter
compute one at a time. Turns decide whose request begins next; they don't keep
somebody with many cheap requests, refused ones for example, from computing
all the time, so that every step of another's request waits. So the next
request of a tenant begins only when a multiple of the time has passed that its
last one computed for: the more requests it has at a time beside the tenant
with the fewest, the longer. That one never rests, and nobody does while no
other tenant asks.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from app.serving.presence import Presence

MOST_REST: Final = 8
"""How much longer than the computing a rest is at the most: a ninth of the time is left. It is as
often as the tenant has more requests at a time than the one with the fewest, so tenants that are
much alike share alike."""

MOST_NS: Final = 2_000_000
"""Most computing that counts: what goes beyond is a model's, beside which others compute."""

LATELY_NS: Final = 50_000_000
"""How long another tenant counts after its last request, at the least: one that asks again as soon
as it has its answer counts all the time, one that asks now and then slows nobody in between."""


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
        rest = min(MOST_REST, self._presence.excess(tenant))
        if rest:
            begin_ns = self._due_ns.get(tenant, now_ns)
            self._due_ns[tenant] = begin_ns + round(rest * min(computed_ns, MOST_NS))
        self._presence.left(tenant)

    def left_ns(self, tenant: str) -> int:
        """Gives how long the tenant rests from now on; 0 when its next request may begin."""
        left_ns = self._due_ns.get(tenant, 0) - self._clock_ns()
        return left_ns if left_ns > 0 and self._presence.excess(tenant) else 0
