"""Looks for bundles where others put them, without waiting for ever.

A folder of the host may take as long as it likes to answer. So it is looked
through by a thread of its own, one at a time, and whoever wants to know waits
for that thread up to a deadline.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

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
        self._changed = threading.Condition()
        self._begun = self._ended = 0
        self._begun_at = 0.0
        self._seen: Scan | None = None
        self._error: Exception | None = None

    @property
    def latest(self) -> Scan:
        """What was seen last; nothing before the first look."""
        with self._changed:
            return self._seen or Scan(())

    def fresh(self, wait_s: float | None = None) -> Scan:
        """Looks once more.

        Args:
            wait_s: how long to wait; None for as long as it takes.

        Raises:
            BusyError: it takes too long; another try may find out.
            Exception: what looking raised.
        """
        with self._changed:
            number = self._begun + 1  # one that is under way may have passed what came just now
            end = None if wait_s is None else self._clock() + wait_s
            while self._ended < number:
                self._begin()
                self._wait(end)
            return self._result()

    def recent(self) -> Scan:
        """Gives what was seen last, and looks again first if that was some time ago.

        Where the folder doesn't answer, the first who asks wait for it until the deadline; after
        it nobody does.

        Raises:
            BusyError: it takes too long, and nothing was ever seen.
            Exception: what looking raised.
        """
        with self._changed:
            if self._seen is None:
                return self.fresh(self._deadline_s)
            if self._clock() - self._begun_at >= self._rescan_s:
                self._begin()
            end = self._begun_at + self._deadline_s
            while self._is_under_way and self._clock() < end:
                self._changed.wait(end - self._clock())
            return self._seen if self._is_under_way else self._result()

    @property
    def _is_under_way(self) -> bool:
        return self._ended < self._begun

    def _wait(self, end: float | None) -> None:
        left_s = None if end is None else end - self._clock()
        if left_s is not None and left_s <= 0:
            raise BusyError("the bundle folder doesn't answer; try again")
        self._changed.wait(left_s)

    def _begin(self) -> None:
        if self._is_under_way:
            return
        self._begun += 1
        self._begun_at = self._clock()
        # A daemon: a folder that never answers doesn't keep the process from ending.
        threading.Thread(target=self._look, name="bundles", daemon=True).start()

    def _look(self) -> None:
        seen, failed = self._seen, None
        try:
            seen = self._scan()
        except Exception as error:
            failed = error
        with self._changed:
            self._seen, self._error = seen, failed
            self._ended += 1
            self._changed.notify_all()

    def _result(self) -> Scan:
        if self._error is not None:
            raise self._error
        if self._seen is None:
            raise BusyError("the bundle folder wasn't looked through yet; try again")
        return self._seen
