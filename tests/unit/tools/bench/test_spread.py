from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.bench.spread import percentile, spread

samples = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50)


@given(samples)
def test_quartiles_are_in_order_and_inside(found: list[float]) -> None:
    middle = spread(found)
    assert min(found) <= middle.first <= middle.median <= middle.third <= max(found)
    assert middle.count == len(found)


@given(samples, st.floats(0.01, 1))
def test_percentile_was_measured_and_covers_its_share(found: list[float], share: float) -> None:
    value = percentile(found, share)
    assert value in found
    assert sum(each <= value for each in found) >= share * len(found)
    assert sum(each < value for each in found) < share * len(found)


def test_maximum_is_the_whole_share() -> None:
    assert percentile([3.0, 9.0, 1.0], 1.0) == 9.0


def test_nothing_has_no_median() -> None:
    with pytest.raises(ValueError, match="one sample at least"):
        spread([])
