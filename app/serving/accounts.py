"""Who has cost how much, and who has how many requests at a time.

One object answers both for the whole server. The event loop asks it whose bytes to look at next,
the workers whose request, a model whose run: they charge what each client's work has cost.

* **Who goes next.** Start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996) over measured
  time: work begins in the order of its client's standing, and its cost moves the standing on. A
  client that comes anew stands where the work that began last stood, so it waits for what runs and
  never for somebody's backlog; what a client used while nobody else asked is not held against it.
* **How many at a time.** Threads of one interpreter compute one at a time, so more of somebody's
  requests at once make every step of the others' slower. A client runs no more of them at a time
  than all others together had lately.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

LATELY_NS: Final = 1_000_000_000
"""How long a client's requests count after their answers, at the least; at most twice as long.
Longer than a client takes between an answer and its next request, short enough that a busy client
soon has everything again."""


class Accounts:
    """The clients of one server. Callable from any thread.

    Clients are told apart by text: a tenant's name, or a block of addresses.

    Args:
        clock_ns: a monotonic clock in nanoseconds.
    """

    def __init__(self, clock_ns: Callable[[], int] = time.perf_counter_ns) -> None:
        self._clock_ns = clock_ns
        self._lock = threading.Lock()
        self._virtual_ns = 0
        self._finish_ns: dict[str, int] = {}
        """Where the next work of a client stands, unless that is behind `_virtual_ns` by now."""
        self._last_cost_ns: dict[str, int] = {}
        self._requests: Counter[str] = Counter()
        self._peak: Counter[str] = Counter()
        self._peak_before: Counter[str] = Counter()
        self._window_began_ns = clock_ns()

    # --- cost ----------------------------------------------------------------------------------

    def standing(self, client: str) -> int:
        """Returns where the client's next work stands in line: the smaller goes first."""
        return max(self._virtual_ns, self._finish_ns.get(client, 0))

    def charge(self, client: str, cost_ns: int) -> None:
        """Charges a piece of work that is done."""
        with self._lock:
            self._finish_ns[client] = self.standing(client) + cost_ns

    def begin(self, client: str) -> int:
        """Notes that work of unknown cost begins and charges as much as the client's last one.

        Returns:
            What was charged; `end` needs it.
        """
        with self._lock:
            start_ns = self._virtual_ns = self.standing(client)
            expected_ns = self._last_cost_ns.get(client, 0)
            self._finish_ns[client] = start_ns + expected_ns
            return expected_ns

    def end(self, client: str, expected_ns: int, cost_ns: int) -> None:
        """Charges what work has cost that began with `begin`.

        Args:
            client: whose it was.
            expected_ns: what `begin` gave.
            cost_ns: measured.
        """
        with self._lock:
            self._last_cost_ns[client] = cost_ns
            self._finish_ns[client] = self._finish_ns.get(client, 0) + cost_ns - expected_ns

    # --- requests at a time --------------------------------------------------------------------

    def came(self, client: str) -> None:
        """Notes a request; `left` has to follow."""
        with self._lock:
            self._begin_window_when_due()
            self._requests[client] += 1
            self._peak[client] = max(self._peak[client], self._requests[client])

    def left(self, client: str) -> None:
        """Notes that a request has its answer."""
        with self._lock:
            self._begin_window_when_due()
            self._requests[client] -= 1
            if not self._requests[client]:
                del self._requests[client]

    def others_requests(self, client: str) -> int:
        """Returns how many requests at a time all other clients together had lately."""
        with self._lock:
            self._begin_window_when_due()
            lately = self._peak | self._peak_before
            return lately.total() - lately[client]

    def _begin_window_when_due(self) -> None:
        now_ns = self._clock_ns()
        passed_ns = now_ns - self._window_began_ns
        if passed_ns < LATELY_NS:
            return
        self._peak_before = self._peak if passed_ns < 2 * LATELY_NS else Counter()
        self._peak = self._requests.copy()
        self._window_began_ns = now_ns
        # Whoever owes nothing and wasn't here lately is forgotten, so that names don't pile up.
        here = self._peak.keys() | self._peak_before.keys()
        self._finish_ns = {
            client: finish_ns
            for client, finish_ns in self._finish_ns.items()
            if finish_ns > self._virtual_ns or client in here
        }
        self._last_cost_ns = {
            client: cost_ns
            for client, cost_ns in self._last_cost_ns.items()
            if client in self._finish_ns
        }
