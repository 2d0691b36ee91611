from __future__ import annotations

import pytest

from tools.bench.interleaved import Timings, measure


def test_ways_take_turns_and_the_first_round_is_not_counted() -> None:
    order: list[str] = []
    steps: list[int] = []
    ways = {name: (lambda name=name: order.append(name)) for name in ("a", "b", "c")}
    found = measure(ways, 3, baseline="b", step=steps.append)
    assert order == ["a", "b", "c"] * 4
    assert steps == [0, 1, 2, 3]
    assert found.keys() == ways.keys()
    for timings in found.values():
        assert len(timings.seconds) == len(timings.ratios) == 3
        assert all(seconds >= 0 for seconds in timings.seconds)
    assert found["b"].ratios == (1.0, 1.0, 1.0)


def test_ratios_are_taken_round_by_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise that slows a whole round cancels out."""
    clock = [0.0]
    durations = iter([9.0, 9.0, 1.0, 2.0, 10.0, 20.0, 3.0, 6.0])

    def work() -> None:
        clock[0] += next(durations)

    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    found = measure({"base": work, "other": work}, 3, baseline="base")
    assert found["base"].seconds == (1.0, 10.0, 3.0)
    assert found["other"].ratios == (2.0, 2.0, 2.0)
    assert (found["base"].median_s, found["other"].ratio) == (3.0, 2.0)


@pytest.mark.parametrize(
    ("ratios", "quartiles"),
    [((2.0,), (2.0, 2.0)), ((1.0, 3.0), (1.5, 2.5)), ((5.0, 1.0, 2.0, 3.0, 4.0), (2.0, 4.0))],
)
def test_quartiles(ratios: tuple[float, ...], quartiles: tuple[float, float]) -> None:
    assert Timings(ratios, ratios).quartiles == quartiles
