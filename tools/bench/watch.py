"""What an appliance has and holds: resident memory over a stretch, and its own gauges."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Self

from tools.bench.client import Endpoint
from tools.bench.process_tree import Sample
from tools.bench.results import Row
from tools.errors import BenchmarkError
from tools.serving_client.connection import Connection

WATCHDOG_S: Final = 90.0
"""Longer than the longest deadline of a connection, which is 75 s of idling."""

EVERY_S: Final = 1.0
"""Between two looks at memory while load is measured."""

_PAUSE_S: Final = 0.05
_IDLE: Final[Mapping[str, float]] = {
    "cloister_connections": 1,
    "cloister_requests_in_progress": 1,
    "cloister_queue_requests": 0,
    "cloister_body_bytes": 0,
}
"""The most of each while nobody but the one who asks is there."""


def memory_rows(labels: Mapping[str, str], stretches: Sequence[Sequence[Sample]]) -> Iterator[Row]:
    """Gives resident memory at the first and last look and at most, a sample for each stretch."""
    seen = [[float(each.resident_bytes) for each in samples] for samples in stretches if samples]
    note = "" if seen else "the appliance is no process of this machine"
    for name, choose in (("first", lambda s: s[0]), ("last", lambda s: s[-1]), ("most", max)):
        yield Row(labels, f"memory, {name}", "bytes", tuple(choose(s) for s in seen), note)


class Gauges:
    """Asks an appliance for its metrics, on a connection of its own.

    Args:
        endpoint: the appliance, with the token of a tenant that has the right `metrics`.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._connection = Connection(endpoint.url, endpoint.trust, WATCHDOG_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def read(self) -> dict[str, float]:
        """Gives what has no label, by name.

        Raises:
            ServingError: the server doesn't tell.
        """
        text = self._connection.ask("GET", "/metrics").body.decode()
        words = (line.split() for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, value in words if "{" not in name}

    def wait_until_idle(self) -> float:
        """Waits until nobody else is connected and nothing is held; gives the seconds.

        Raises:
            BenchmarkError: it isn't within `WATCHDOG_S`.
            ServingError: the server doesn't tell.
        """
        started = time.perf_counter()
        while True:
            found = self.read()
            held = {name: found[name] for name, most in _IDLE.items() if found[name] > most}
            passed_s = time.perf_counter() - started
            if not held:
                return passed_s
            if passed_s > WATCHDOG_S:
                said = ", ".join(f"{name} {value:g}" for name, value in held.items())
                raise BenchmarkError(
                    f"{WATCHDOG_S:g} s after all clients left the appliance still has {said}"
                )
            time.sleep(_PAUSE_S)
