"""The choice among all ways to cut: the same as if each had been played through."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.tools.planner.graphs import chain
from tools.planner import options
from tools.planner.cost import played_bytes
from tools.planner.cuts import candidate_cuts
from tools.planner.liveness import Liveness
from tools.planner.options import Options
from tools.planner.summary import GraphSummary

GRAPHS = st.builds(
    chain,
    st.lists(st.integers(0, 800_000), min_size=1, max_size=8),
    st.integers(1, 300_000),
)


@settings(max_examples=40)
@given(GRAPHS, st.integers(1_500_000, 8_000_000), st.booleans(), st.sampled_from([1, 4]))
def test_choice_is_the_best_of_all(
    graph: GraphSummary, room: int, overlap: bool, lock_step: int
) -> None:
    live = Liveness(graph)
    found = Options(live, 1, lock_step)
    every = [found._play(cuts) for cuts in candidate_cuts(live, lock_step)]
    fitting = [each for each in every if each.least_bytes <= room]
    fewest = found.fewest(room)
    assert (fewest is None) == (not fitting)
    assert found.least_bytes() == min(each.least_bytes for each in every)
    fastest = found.fastest(room, overlap=overlap)
    assert (fastest is None) == (not fitting)
    if fewest is None or fastest is None:
        return
    assert len(fewest) - 1 == min(len(each.stages) for each in fitting)
    times = {each.cuts: each.request_ns(room, overlap=overlap) for each in fitting}
    assert times[fastest] == min(time for time in times.values() if time is not None)


def test_what_cannot_win_is_not_played(monkeypatch: pytest.MonkeyPatch) -> None:
    played = []

    def count(live: Liveness, cuts: tuple[int, ...], lock_step: int) -> list[int]:
        played.append(cuts)
        return played_bytes(live, cuts, lock_step)

    monkeypatch.setattr(options, "played_bytes", count)
    found = Options(Liveness(chain([640_000] * 40)), 1, 1)
    assert found.fastest(100_000_000, overlap=True) == (0, 40)
    assert len(played) == 1


def test_more_time_for_more_traffic() -> None:
    found = Options(Liveness(chain([64_000] * 4, value_bytes=100_000)), 1, 1)
    whole = found._play((0, 4)).request_ns(10_000_000, overlap=True)
    cut = found._play((0, 2, 4)).request_ns(10_000_000, overlap=True)
    assert whole is not None
    assert cut is not None
    assert cut > whole
