"""Laws of what is kept in memory and what passes through slots."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.schedule import (
    HAND_OVER_BYTES,
    MAX_SLOTS,
    Schedule,
    Stage,
    make_schedule,
)

STAGES = st.lists(
    st.builds(Stage, st.integers(0, 4_000_000), st.integers(0, 1_000_000), st.integers(0, 2**22)),
    min_size=1,
    max_size=8,
)
ROOM = st.integers(0, 20_000_000)


def working(stages: list[Stage]) -> int:
    return max(stage.working_bytes for stage in stages)


@settings(max_examples=300)
@given(STAGES, ROOM, st.booleans())
def test_schedule_fits_and_holds_every_partition(
    stages: list[Stage], room: int, overlap: bool
) -> None:
    found = make_schedule(stages, room, overlap=overlap)
    largest = max(stage.weights_bytes for stage in stages)
    if found is None:
        assert room < largest + working(stages), "one slot and the working memory don't fit"
        return
    assert found.weights_bytes(stages) + working(stages) <= room
    assert found.pinned <= set(range(len(stages)))
    streamed = [stages[i] for i in range(len(stages)) if i not in found.pinned]
    assert all(stage.weights_bytes <= found.slot_bytes for stage in streamed)
    assert bool(found.slots) or not streamed
    assert found.slots <= (MAX_SLOTS if overlap else 1)


@settings(max_examples=200)
@given(STAGES, st.integers(0, 1000), st.booleans())
def test_what_fits_stays(stages: list[Stage], spare: int, overlap: bool) -> None:
    total = sum(stage.weights_bytes for stage in stages)
    room = total + working(stages) + spare
    run_ns = sum(stage.run_ns for stage in stages)
    everything = Schedule(frozenset(range(len(stages))), 0, 0, run_ns)
    assert make_schedule(stages, room, overlap=overlap) == everything


@settings(max_examples=300)
@given(STAGES, ROOM, st.booleans())
def test_request_takes_no_less_than_computing_and_no_more_than_loading_in_between(
    stages: list[Stage], room: int, overlap: bool
) -> None:
    found = make_schedule(stages, room, overlap=overlap)
    if found is None:
        return
    run_ns = sum(stage.run_ns for stage in stages)
    load_ns = sum(stage.stall_ns for i, stage in enumerate(stages) if i not in found.pinned)
    assert run_ns <= found.request_ns <= run_ns + load_ns + len(stages)
    if not overlap:
        assert found.request_ns == run_ns + load_ns


@settings(max_examples=400)
@given(STAGES, ROOM, ROOM, st.booleans())
def test_more_room_is_never_slower(stages: list[Stage], a: int, b: int, overlap: bool) -> None:
    small, large = (make_schedule(stages, room, overlap=overlap) for room in sorted((a, b)))
    if small is not None:
        assert large is not None
        assert large.request_ns <= small.request_ns


@settings(max_examples=200)
@given(STAGES, ROOM)
def test_overlap_is_never_slower(stages: list[Stage], room: int) -> None:
    alone = make_schedule(stages, room, overlap=False)
    ahead = make_schedule(stages, room, overlap=True)
    assert (alone is None) == (ahead is None)
    if alone is not None and ahead is not None:
        assert ahead.request_ns <= alone.request_ns


@pytest.mark.parametrize("overlap", [False, True])
def test_one_slot_is_enough(overlap: bool) -> None:
    stages = [Stage(100, 5, 1000), Stage(300, 7, 1000), Stage(200, 6, 1000)]
    assert make_schedule(stages, 306, overlap=overlap) is None
    found = make_schedule(stages, 307, overlap=overlap)
    assert found is not None
    assert (found.slots, found.slot_bytes, found.pinned) == (1, 300, frozenset())


def test_two_slots_hide_loading_behind_computing() -> None:
    stages = [Stage(1_000_000, 0, 10**7) for _ in range(6)]
    found = make_schedule(stages, 2_000_000, overlap=True)
    assert found is not None
    assert (found.slots, found.pinned) == (2, frozenset())
    assert found.request_ns == 6 * 10**7


def test_one_slot_alternates() -> None:
    stages = [Stage(1_000_000, 0, 10**7) for _ in range(6)]
    found = make_schedule(stages, 1_000_000, overlap=True)
    assert found is not None
    assert found.request_ns == sum(stage.run_ns + stage.stall_ns for stage in stages)


def test_one_large_partition_is_pinned_instead_of_making_every_slot_large() -> None:
    stages = [Stage(1_000_000, 0, 1000) for _ in range(8)]
    stages[3] = Stage(4_000_000, 0, 1000)
    found = make_schedule(stages, 7_000_000, overlap=True)
    assert found is not None
    assert 3 in found.pinned
    assert found.slot_bytes == 1_000_000


def test_small_weights_are_not_hidden_but_not_shared_either() -> None:
    stages = [Stage(HAND_OVER_BYTES - 1, 0, 10**7) for _ in range(6)]
    found = make_schedule(stages, 2 * HAND_OVER_BYTES, overlap=True)
    assert found is not None
    assert found.request_ns == sum(
        stage.run_ns + stage.load_ns for i, stage in enumerate(stages) if i not in found.pinned
    ) + sum(stages[i].run_ns for i in found.pinned)


@dataclass(frozen=True)
class Part:
    boundary_bytes: int
    activation_bytes: int
    run_ns: int = 1


PARTS = st.lists(
    st.builds(Part, st.integers(1, 10**6), st.integers(0, 10**6)), min_size=1, max_size=6
)
