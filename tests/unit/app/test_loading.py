"""A load shared by threads: every piece once, nothing used that isn't complete."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import count

import pytest

from app.loading import Load

PIECES = 40


class Pieces:
    """Remembers who filled what.

    Attributes:
        filled: the pieces in the order of their beginning.
        closed: what `close` was told, once for every call.
    """

    def __init__(self, pieces: int = PIECES, failing: frozenset[int] = frozenset()) -> None:
        self.pieces = pieces
        self.filled: list[int] = []
        self.closed: list[bool] = []
        self.running = 0
        self._failing = failing
        self._lock = threading.Lock()

    def fill(self, piece: int) -> None:
        """See `app.loading.Source`."""
        with self._lock:
            self.filled.append(piece)
            self.running += 1
        try:
            if piece in self._failing:
                raise OSError(f"piece {piece}")
        finally:
            with self._lock:
                self.running -= 1

    def close(self, *, complete: bool) -> None:
        """See `app.loading.Source`."""
        assert self.running == 0, "nobody works on what is closed"
        self.closed.append(complete)


def work_together(load: Load, count: int) -> None:
    with ThreadPoolExecutor(count) as threads:
        wait([threads.submit(load.work) for _ in range(count)])


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("pieces", [1, 2, PIECES])
def test_every_piece_is_filled_once(pieces: int, threads: int) -> None:
    source = Pieces(pieces)
    load = Load(source)
    work_together(load, threads)
    load.finish()
    assert sorted(source.filled) == list(range(pieces))
    assert source.closed == [True]


def test_one_thread_fills_in_order() -> None:
    source = Pieces()
    load = Load(source)
    load.work()
    load.work()
    load.finish()
    assert source.filled == list(range(PIECES))


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("failing", [0, 17, PIECES - 1])
def test_load_with_a_piece_that_failed_is_never_complete(failing: int, threads: int) -> None:
    source = Pieces(failing=frozenset({failing}))
    load = Load(source)
    work_together(load, threads)
    with pytest.raises(OSError, match=f"piece {failing}"):
        load.finish()
    assert source.closed == [False]
    begun = len(source.filled)
    load.work()
    assert len(source.filled) == begun, "the rest isn't begun"


def test_finish_waits_for_the_piece_of_another_thread() -> None:
    begun, go = threading.Event(), threading.Event()

    class Slow(Pieces):
        def fill(self, piece: int) -> None:
            begun.set()
            assert go.wait(10)
            super().fill(piece)

    source = Slow(1)
    load = Load(source)
    with ThreadPoolExecutor(2) as threads:
        other = threads.submit(load.work)
        assert begun.wait(10)
        finished = threads.submit(load.finish)
        assert not finished.done()
        assert source.closed == []
        go.set()
        finished.result(10)
        other.result(10)
    assert (source.filled, source.closed) == ([0], [True])


def test_load_given_up_is_not_complete() -> None:
    source = Pieces()
    load = Load(source)
    load.abandon()
    load.work()
    assert (source.filled, source.closed) == ([], [False])


def test_busy_time_is_that_of_all_pieces() -> None:
    load = Load(Pieces(), count(step=5).__next__)
    load.work()
    load.finish()
    assert load.busy_ns == 5 * PIECES
