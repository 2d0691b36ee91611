from __future__ import annotations

import random
import threading
import time
from collections import Counter
from itertools import pairwise

import pytest

from tools.bench import load
from tools.bench.client import Answer, Endpoint, Request
from tools.bench.profile import PHASES, Batches
from tools.errors import ServingError
from tools.serving_client import Trust
from tools.serving_client.connection import Reply

SERVICE_S = 0.01


class OneAtATime:
    """A server that works on one request at a time; every `failing`-th is refused."""

    failing = 0
    working = threading.Lock()
    count = 0

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint

    def infer(self, model: str, request: Request) -> Answer:
        started = time.perf_counter()
        with self.working:
            time.sleep(SERVICE_S)
            type(self).count += 1
            refused = self.failing and self.count % self.failing == 0
        if refused:
            raise ServingError("refused (503)", status=503)
        content = b'{"model_name": "digits", "model_version": "1", "outputs": []}'
        timing = "total;dur=8, decode;dur=1, wait;dur=2, run;dur=3, encode;dur=1, load;dur=9"
        reply = Reply({"server": "x (process)", "server-timing": timing}, content)
        return Answer(reply, time.perf_counter() - started)

    def __enter__(self) -> OneAtATime:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def batches(answered: int) -> Batches:
    """Every request was a batch of its own and took what it takes."""
    return Batches(Counter({1: answered}), answered * SERVICE_S)


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> load.Service:
    monkeypatch.setattr(load, "Client", OneAtATime)
    monkeypatch.setattr(load, "SENDERS", 2)
    monkeypatch.setattr(OneAtATime, "failing", 0)
    monkeypatch.setattr(load, "read_batches", lambda *_: batches(OneAtATime.count))
    return load.Service(Endpoint("https://localhost:1", Trust()), "digits", Request([], {}))


def test_arrivals_are_random_at_the_rate_and_the_same_for_a_seed() -> None:
    found = load.moments(50.0, 100.0, random.Random(1))
    assert found == load.moments(50.0, 100.0, random.Random(1))
    assert len(found) == pytest.approx(5000, rel=0.1)
    assert all(0 < moment < 100 for moment in found)
    gaps = [later - earlier for earlier, later in pairwise(found)]
    # Exponential: the deviation equals the mean.
    mean = sum(gaps) / len(gaps)
    assert sum((gap - mean) ** 2 for gap in gaps) / len(gaps) == pytest.approx(mean**2, rel=0.2)


def test_waiting_for_a_free_client_is_not_omitted(service: load.Service) -> None:
    """At three times what the server can do, the last request waited for most of the stretch."""
    seconds = 0.3
    found = load.open_loop(service, 3 / SERVICE_S, seconds, random.Random(2))
    assert max(found.latencies) > seconds
    assert found.seconds > seconds
    assert found.throughput < 1.5 / SERVICE_S


def test_closed_loop_counts_every_client_and_no_error_as_an_answer(
    service: load.Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OneAtATime, "failing", 2)
    found = load.closed_loop(service, 3, 0.2)
    assert found.errors.keys() == {"status 503"}
    assert len(found.latencies) >= 3
    assert abs(found.errors.total() - len(found.latencies)) <= 3
    assert min(found.latencies) >= SERVICE_S


def test_rows_have_percentiles_in_order_and_the_runtime(service: load.Service) -> None:
    settings = load.Settings(clients=(1, 2), shares=(0.5,), seconds=0.1, rounds=2)
    steps: list[int] = []
    rows = load.measure("digits", {}, service, settings, lambda: steps.append(1))
    assert len(steps) == load.steps(settings) == 6
    assert {row.labels["runtime"] for row in rows} == {"process"}
    for labels in {tuple(row.labels.items()) for row in rows}:
        of_level = {row.metric: row for row in rows if tuple(row.labels.items()) == labels}
        assert len(of_level["throughput"].samples) == 2
        medians = [of_level[name].median for name in ("p50", "p95", "p99", "max")]
        assert medians == sorted(medians)
        assert medians[-1] == max(of_level["latency"].samples)


def test_rows_say_where_the_time_went(service: load.Service) -> None:
    settings = load.Settings(clients=(2,), shares=(), seconds=0.1, rounds=2)
    rows = {row.metric: row for row in load.measure("digits", {}, service, settings, lambda: None)}
    assert rows["batch size"].samples == (1.0, 1.0)
    assert all(0.5 < share <= 1.1 for share in rows["busy"].samples)
    assert rows["turn"].median == pytest.approx(0.001), "total without what is named"
    assert rows["wait"].median == pytest.approx(0.002)
    spent = sum(rows[phase].median for phase in PHASES)
    latencies = rows["latency"].samples
    assert spent == pytest.approx(sum(latencies) / len(latencies), rel=0.3)


def test_a_server_that_tells_nothing_is_measured_all_the_same(
    service: load.Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "read_batches", lambda *_: None)
    settings = load.Settings(clients=(1,), shares=(), seconds=0.1, rounds=1)
    rows = {row.metric: row for row in load.measure("digits", {}, service, settings, lambda: None)}
    assert rows["throughput"].samples
    assert rows["batch size"].samples == rows["busy"].samples == ()
    assert rows["batch size"].note == "the server doesn't tell"


def test_batches_are_those_since_the_stretch_began() -> None:
    before = Batches(Counter({1: 3, 8: 1}), 2.0)
    found = Batches(Counter({1: 3, 4: 2, 8: 5}), 7.0).since(before)
    assert found.counts == {4: 2, 8: 4}
    assert found.seconds == 5.0
    assert found.mean_size == pytest.approx(40 / 6)


def test_a_server_that_refuses_is_no_measurement(
    service: load.Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OneAtATime, "failing", 1)
    settings = load.Settings(clients=(1,), shares=(), seconds=0.1, rounds=1)
    with pytest.raises(ServingError, match="503"):
        load.measure("digits", {}, service, settings, lambda: None)
