"""Times several ways to do the same in turn, so that a noisy machine is noisy for all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timings:
    """What was measured of one way.

    Attributes:
        seconds: one number per round.
        ratios: to the baseline, round by round.
    """

    seconds: tuple[float, ...]
    ratios: tuple[float, ...]

    @property
    def median_s(self) -> float:
        """Median time of a round, in seconds."""
        return statistics.median(self.seconds)

    @property
    def ratio(self) -> float:
        """Median of the ratios to the baseline."""
        return statistics.median(self.ratios)

    @property
    def quartiles(self) -> tuple[float, float]:
        """First and third quartile of the ratios."""
        if len(self.ratios) == 1:
            return self.ratios[0], self.ratios[0]
        first, _, third = statistics.quantiles(self.ratios, n=4, method="inclusive")
        return first, third


def measure(
    ways: Mapping[str, Callable[[], object]],
    rounds: int,
    *,
    baseline: str,
    step: Callable[[int], None] = lambda _: None,
) -> dict[str, Timings]:
    """Runs every way once per round, in turn, after one round that isn't counted.

    Args:
        ways: what to time, by name.
        rounds: how often.
        baseline: the name of the way that the others are divided by.
        step: called with the number of rounds done.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            if number:
                seconds[name].append(time.perf_counter() - started)
        step(number)
    return {
        name: Timings(
            tuple(times), tuple(a / b for a, b in zip(times, seconds[baseline], strict=True))
        )
        for name, times in seconds.items()
    }
