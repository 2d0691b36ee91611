"""Memory over a stretch, and an appliance that says when it holds nothing more."""

from __future__ import annotations

import pytest

from tools.bench import watch
from tools.bench.client import Endpoint
from tools.bench.process_tree import Sample
from tools.bench.watch import Gauges, memory_rows
from tools.errors import BenchmarkError
from tools.serving_client import Trust
from tools.serving_client.connection import Reply

IDLE = {
    "cloister_connections": 1,
    "cloister_requests_in_progress": 1,
    "cloister_queue_requests": 0,
    "cloister_body_bytes": 0,
}


class Appliance:
    """Tells one state after the other, the last one for ever."""

    states: list[dict[str, int]]

    def __init__(self, *_: object) -> None:
        pass

    def ask(self, method: str, path: str) -> Reply:
        assert (method, path) == ("GET", "/metrics")
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        lines = [f"# TYPE {name} gauge\n{name} {value}.0\n" for name, value in state.items()]
        return Reply({}, "".join([*lines, 'cloister_answers_total{status="200"} 7.0\n']).encode())

    def close(self) -> None:
        pass


@pytest.fixture
def gauges(monkeypatch: pytest.MonkeyPatch) -> Gauges:
    monkeypatch.setattr(watch, "Connection", Appliance)
    monkeypatch.setattr(watch, "_PAUSE_S", 0.0)
    return Gauges(Endpoint("https://localhost:1", Trust()))


def test_waits_for_the_last_connection_and_the_last_byte(
    gauges: Gauges, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = [{"cloister_connections": 201}, {"cloister_body_bytes": 9}, {}]
    states = [{**IDLE, **change} for change in held]
    monkeypatch.setattr(Appliance, "states", states, raising=False)
    assert gauges.wait_until_idle() >= 0
    assert len(states) == 1, "every earlier state was seen"
    assert gauges.read() == IDLE


def test_says_what_is_still_held(gauges: Gauges, monkeypatch: pytest.MonkeyPatch) -> None:
    states = [{**IDLE, "cloister_connections": 3}]
    monkeypatch.setattr(Appliance, "states", states, raising=False)
    monkeypatch.setattr(watch, "WATCHDOG_S", 0.0)
    with pytest.raises(BenchmarkError, match="still has cloister_connections 3"):
        gauges.wait_until_idle()


def test_memory_of_each_stretch_is_first_last_and_most() -> None:
    stretches = [[Sample(0.0, 0.0, size, None) for size in sizes] for sizes in ((5, 9, 7), (7, 7))]
    rows = {row.metric: row for row in memory_rows({"model": "m"}, stretches)}
    assert rows["memory, first"].samples == (5, 7)
    assert rows["memory, last"].samples == (7, 7)
    assert rows["memory, most"].samples == (9, 7)
    assert {row.unit for row in rows.values()} == {"bytes"}


def test_memory_that_nobody_saw_is_not_zero() -> None:
    rows = list(memory_rows({}, []))
    assert all(row.samples == () and row.note for row in rows)
