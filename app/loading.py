"""One load of weights, shared by every thread that has time for it.

A load consists of pieces. The loader's thread fills them one after another;
whoever needs the load before it is complete helps with the pieces that nobody
has begun. So a core that would wait decrypts instead.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol


class Source(Protocol):
    """Where the pieces of one load come from."""

    @property
    def pieces(self) -> int:
        """How many there are."""
        ...

    def fill(self, piece: int) -> None:
        """Puts one piece into its place; called by several threads, each with other pieces."""
        ...

    def close(self, *, complete: bool) -> None:
        """Ends the load; what isn't complete must not be used. Called once, by one thread."""
        ...


class Load:
    """One load under way.

    Args:
        source: gives the pieces.
        clock_ns: a monotonic clock in nanoseconds.
    """

    def __init__(self, source: Source, clock_ns: Callable[[], int] = time.perf_counter_ns) -> None:
        self.busy_ns = 0
        """Time that threads have spent filling, added up."""
        self._source = source
        self._clock_ns = clock_ns
        self._unclaimed = deque(range(source.pieces))
        self._running = 0
        self._error: Exception | None = None
        self._idle = threading.Condition()

    def work(self) -> None:
        """Fills pieces that nobody has begun until there are none; errors are kept for `finish`."""
        while (piece := self._claim()) is not None:
            started = self._clock_ns()
            error = self._fill(piece)
            self._end_piece(self._clock_ns() - started, error)

    def finish(self) -> None:
        """Waits until all pieces are filled. Somebody must have called `work`.

        Raises:
            Exception: what the source raised first; the load is of no use then.
        """
        self._wait()
        self._source.close(complete=self._error is None)
        if self._error is not None:
            raise self._error

    def abandon(self) -> None:
        """Gives the load up; returns when no thread works on it any more."""
        with self._idle:
            self._unclaimed.clear()
        self._wait()
        self._source.close(complete=False)

    def _claim(self) -> int | None:
        with self._idle:
            if not self._unclaimed:
                return None
            self._running += 1
            return self._unclaimed.popleft()

    def _fill(self, piece: int) -> Exception | None:
        try:
            self._source.fill(piece)
        except Exception as error:
            return error
        return None

    def _end_piece(self, took_ns: int, error: Exception | None) -> None:
        with self._idle:
            self.busy_ns += took_ns
            self._running -= 1
            if error is not None:
                self._error = self._error or error
                self._unclaimed.clear()
            if not self._running and not self._unclaimed:
                self._idle.notify_all()

    def _wait(self) -> None:
        with self._idle:
            self._idle.wait_for(lambda: not self._running and not self._unclaimed)
