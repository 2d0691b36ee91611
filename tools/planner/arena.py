"""Plays onnxruntime's CPU allocator, to predict how much memory it touches.

The allocator takes large regions from the system and cuts them up: the smallest
free piece that is large enough is used, at its lower end; freed neighbours
become one piece again. A page that was touched once stays resident, so what
counts is how far up a region was ever used. Rules: onnxruntime's
core/framework/bfc_arena.h, with the settings of `app.engine`.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass
from typing import Final

from app.limits import MIB

FIRST_REGION_BYTES: Final = 16 * MIB
"""As `app.engine` configures it; each further region is twice as large."""

PIECE_BYTES: Final = 256
"""Sizes are rounded up to multiples of this."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a region that is in use."""

    region: int
    start: int
    stop: int


class Arena:
    """Hands out and takes back pieces; no memory is behind them."""

    def __init__(self, first_region_bytes: int = FIRST_REGION_BYTES) -> None:
        self._next_region_bytes = first_region_bytes
        self._region_bytes: list[int] = []
        self._reached: list[int] = []
        self._ever_reached: list[int] = []
        self._free: list[tuple[int, int, int]] = []
        self._stop_by_start: dict[tuple[int, int], int] = {}
        self._start_by_stop: dict[tuple[int, int], int] = {}

    @property
    def touched_bytes(self) -> int:
        """Memory touched since the beginning."""
        return sum(self._ever_reached)

    @property
    def reached_bytes(self) -> int:
        """The same since `mark`, as if nothing higher had been used before it."""
        return sum(self._reached)

    def mark(self) -> None:
        """Makes `reached_bytes` start anew, from what is in use."""
        self._reached = [
            self._start_by_stop.get((region, size), size)
            for region, size in enumerate(self._region_bytes)
        ]

    def allocate(self, size_bytes: int) -> Piece:
        """Takes the smallest free piece that is large enough."""
        needed = max(1, -(-size_bytes // PIECE_BYTES)) * PIECE_BYTES
        place = bisect_left(self._free, (needed, -1, -1))
        if place == len(self._free):
            self._extend(needed)
            place = bisect_left(self._free, (needed, -1, -1))
        size, region, start = self._free[place]
        self._take(region, start, start + size)
        stop = start + needed
        if size > needed:
            self._give(region, stop, start + size)
        self._reached[region] = max(self._reached[region], stop)
        self._ever_reached[region] = max(self._ever_reached[region], stop)
        return Piece(region, start, stop)

    def free(self, piece: Piece) -> None:
        """Takes a piece back and joins it with free neighbours."""
        region, start, stop = piece.region, piece.start, piece.stop
        above = self._stop_by_start.get((region, stop))
        if above is not None:
            self._take(region, stop, above)
            stop = above
        below = self._start_by_stop.get((region, start))
        if below is not None:
            self._take(region, below, start)
            start = below
        self._give(region, start, stop)

    def _extend(self, needed: int) -> None:
        doubled = needed > self._next_region_bytes
        while needed > self._next_region_bytes:
            self._next_region_bytes *= 2
        self._region_bytes.append(self._next_region_bytes)
        self._reached.append(0)
        self._ever_reached.append(0)
        self._give(len(self._region_bytes) - 1, 0, self._next_region_bytes)
        if not doubled:
            self._next_region_bytes *= 2

    def _give(self, region: int, start: int, stop: int) -> None:
        insort(self._free, (stop - start, region, start))
        self._stop_by_start[region, start] = stop
        self._start_by_stop[region, stop] = start

    def _take(self, region: int, start: int, stop: int) -> None:
        del self._free[bisect_left(self._free, (stop - start, region, start))]
        del self._stop_by_start[region, start]
        del self._start_by_stop[region, stop]
