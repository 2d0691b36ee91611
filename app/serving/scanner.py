"""Looks for bundles where others put them, without waiting for ever.

A folder of the host may take as long as it likes to answer. So it is looked
through by a thread of its own, one at a time, and whoever wants to know waits
for that thread up to a deadline.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait

from app.errors import BusyError
from app.limits import SCAN_DEADLINE_S
from app.serving.models import Scan


class Scanner:
    """Looks for bundles. Callable from any thread.

    Args:
        scan: looks once.
        rescan_s: how long `recent` is content with what was seen last.
        deadline_s: how long `recent` waits.
        clock: monotonic, in seconds.
    """

    def __init__(
        self,
        scan: Callable[[], Scan],
        *,
        rescan_s: float = 0.0,
        deadline_s: float = SCAN_DEADLINE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._scan = scan
        self._rescan_s = rescan_s
        self._deadline_s = deadline_s
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: Scan | None = None
        self._begun_at = -math.inf
        self._look: Future[Scan] = Future()
        """The newest one, under way or over."""
        self._look.set_result(Scan(()))

    @property
    def latest(self) -> Scan:
        """What was seen last; nothing before the first look."""
        return self._seen or Scan(())

    def fresh(self, wait_s: float = math.inf) -> Scan:
        """Looks once more.

        Args:
            wait_s: how long to wait.

        Raises:
            BusyError: it takes too long; another try may find out.
            Exception: what looking raised.
        """
        end = self._clock() + wait_s
        with self._lock:
            before = self._look  # if it is under way it may have passed what came just now
        self._wait(before, end)
        with self._lock:
            if self._look is before:
                self._begin()
            look = self._look
        return self._wait(look, end).result()

    def recent(self) -> Scan:
        """Gives what was seen last, and looks again first if that was some time ago.

        Where the folder doesn't answer, the first who ask wait for it until the deadline; after
        it nobody does.

        Raises:
            BusyError: it takes too long, and nothing was ever seen.
            Exception: what looking raised.
        """
        with self._lock:
            if self._look.done() and self._clock() - self._begun_at >= self._rescan_s:
                self._begin()
            look, end = self._look, self._begun_at + self._deadline_s
        try:
            self._wait(look, end)
        except BusyError:
            if self._seen is None:
                raise
            return self._seen
        return look.result()

    def _wait(self, look: Future[Scan], end: float) -> Future[Scan]:
        left_s = end - self._clock()
        wait([look], None if left_s == math.inf else max(0.0, left_s))
        if not look.done():
            raise BusyError("the bundle folder doesn't answer; try again")
        return look

    def _begin(self) -> None:
        """Begins a look, with the lock held."""
        look: Future[Scan] = Future()

        def run() -> None:
            try:
                self._seen = self._scan()
            except Exception as error:
                look.set_exception(error)
            else:
                look.set_result(self._seen)

        # A daemon: a folder that never answers doesn't keep the process from ending.
        threading.Thread(target=run, name="bundles", daemon=True).start()
        self._look, self._begun_at = look, self._clock()
