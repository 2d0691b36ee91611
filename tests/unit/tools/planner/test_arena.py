"""Laws of the allocator that is played: nothing overlaps, nothing is lost."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from app import engine
from app.limits import MIB
from tools.planner.arena import FIRST_REGION_BYTES, PIECE_BYTES, Arena, Piece


def test_smallest_piece_that_is_large_enough_is_used() -> None:
    arena = Arena()
    large, guard, small = (arena.allocate(size * 1024) for size in (8, 1, 2))
    arena.allocate(1024)
    arena.free(large)
    arena.free(small)
    assert arena.allocate(2 * 1024) == small
    assert arena.allocate(2 * 1024) == Piece(0, large.start, large.start + 2 * 1024)
    assert guard.start == large.stop


def test_freed_neighbours_become_one_piece() -> None:
    arena = Arena()
    pieces = [arena.allocate(MIB) for _ in range(3)]
    arena.allocate(PIECE_BYTES)
    for index in (0, 2, 1):
        arena.free(pieces[index])
    assert arena.allocate(3 * MIB) == Piece(0, 0, 3 * MIB)
    assert arena.touched_bytes == 3 * MIB + PIECE_BYTES


def test_what_was_touched_stays() -> None:
    arena = Arena()
    arena.free(arena.allocate(5 * MIB))
    arena.mark()
    arena.allocate(MIB)
    assert (arena.touched_bytes, arena.reached_bytes) == (5 * MIB, MIB)


def test_a_region_more_when_the_first_is_full() -> None:
    arena = Arena()
    arena.allocate(FIRST_REGION_BYTES - MIB)
    second = arena.allocate(2 * MIB)
    assert second == Piece(1, 0, 2 * MIB)
    assert arena.allocate(MIB).region == 0, "what is left of the first isn't forgotten"
    assert arena.allocate(100 * MIB).region == 2


def test_regions_are_as_the_engine_configures_them() -> None:
    assert engine._ARENA_BYTES == FIRST_REGION_BYTES


def test_nothing_still_takes_a_piece() -> None:
    assert Arena().allocate(0) == Piece(0, 0, PIECE_BYTES)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 3 * MIB), max_size=60), st.randoms(use_true_random=False))
def test_pieces_never_overlap_and_come_back_whole(sizes: list[int], random: object) -> None:
    arena, used = Arena(), []
    for size in sizes:
        used.append(arena.allocate(size))
        if len(used) > 3:
            arena.free(used.pop(random.randrange(len(used))))  # type: ignore[attr-defined]
        places = sorted((piece.region, piece.start, piece.stop) for piece in used)
        for (region, _, stop), (other, start, _) in pairwise(places):
            assert region != other or stop <= start
        assert arena.touched_bytes >= sum(piece.stop - piece.start for piece in used)
    for piece in used:
        arena.free(piece)
    arena.mark()
    assert arena.reached_bytes == 0
    assert arena.allocate(FIRST_REGION_BYTES).start == 0
