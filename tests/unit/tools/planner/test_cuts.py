"""Cuts worth a look: legal, inside their bounds, and as few partitions as can be."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.tools.planner.graphs import GRAPH, chain
from tools.planner.cuts import Reach, candidate_cuts
from tools.planner.liveness import Liveness
from tools.planner.summary import GraphSummary

WEIGHTS = st.lists(st.integers(0, 2_000), min_size=1, max_size=8)


def shared(weights: list[int]) -> GraphSummary:
    """A chain whose first and last operator read the same weight."""
    graph = chain(weights)
    last = replace(graph.nodes[-1], weights=("w0",))
    return replace(graph, nodes=(*graph.nodes[:-1], last))


def heaviest(live: Liveness, cuts: tuple[int, ...]) -> int:
    return max(live.weights_bytes(*each) for each in pairwise(cuts))


@settings(max_examples=40)
@given(WEIGHTS, st.booleans())
def test_least_buffer_is_the_least(weights: list[int], share: bool) -> None:
    live = Liveness(shared(weights) if share else chain(weights))
    reach, count = Reach(live), len(weights)
    assert reach.most_partitions == count
    for parts in range(1, count + 1):
        every = [
            heaviest(live, (0, *inner, count))
            for n in range(parts)
            for inner in combinations(range(1, count), n)
        ]
        bound = reach.least_buffer(parts)
        assert bound == min(every)
        cuts = reach.cut(bound, reach.rooms[0])
        assert cuts is not None
        assert heaviest(live, cuts) <= bound
        assert len(cuts) - 1 <= parts


@settings(max_examples=40)
@given(WEIGHTS)
def test_candidates_are_whole_ways_through_the_graph(weights: list[int]) -> None:
    found = candidate_cuts(Liveness(chain(weights)))
    assert found[0] == (0, len(weights))
    assert len(set(found)) == len(found)
    for cuts in found:
        assert cuts[0] == 0
        assert cuts[-1] == len(weights)
        assert all(start < stop for start, stop in pairwise(cuts))


def test_working_memory_is_what_liveness_says() -> None:
    live = Liveness(GRAPH)
    reach = Reach(live)
    for start in range(4):
        for stop in range(start + 1, 5):
            cuts = tuple(dict.fromkeys((0, start, stop, 4)))
            expected = max(
                live.crossing_bytes(a) + live.activation_bytes(a, b) for a, b in pairwise(cuts)
            )
            assert reach.working_bytes(cuts) == expected


def test_room_keeps_wide_stretches_apart() -> None:
    graph = chain([10] * 6, value_bytes=100)
    reach = Reach(Liveness(graph))
    least = reach.rooms[-1]
    cuts = reach.cut(10_000, least)
    assert cuts is not None
    assert reach.working_bytes(cuts) <= least
    assert reach.cut(10_000, least - 1) is None


def test_nothing_fits_a_buffer_that_is_too_small() -> None:
    reach = Reach(Liveness(chain([640, 64])))
    assert reach.cut(639, reach.rooms[0]) is None


def test_batch_counts_at_every_cut() -> None:
    live = Liveness(chain([64] * 3, value_bytes=100))
    alone, eight = Reach(live), Reach(live, lock_step=8)
    assert eight.working_bytes((0, 1, 2, 3)) == alone.working_bytes((0, 1, 2, 3)) + 7 * 100
