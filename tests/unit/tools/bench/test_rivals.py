"""One client's latencies beside others', from answers that were never given."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from tests.unit.tools.bench.test_children import wait_for_ever
from tools.bench import rivals, tenants
from tools.bench.children import child, receive
from tools.bench.client import Answer, Endpoint, Request
from tools.bench.load import Service
from tools.bench.rivals import (
    Heard,
    compute,
    latency_rows,
    listen,
    listen_regularly,
    ratio_rows,
    rival,
    together,
)
from tools.errors import ServingError
from tools.serving_client import Trust
from tools.serving_client.connection import Reply

ALONE = Heard([0.010] * 98 + [0.020] * 2, [0.004] * 100)
BESIDE = Heard([0.010] * 90 + [0.050] * 10, [0.005] * 100, Counter({"status 503": 3}))
NOBODY = Service(Endpoint("https://localhost:9", Trust()), "m", Request([b""], {}))


def placed(ready: Callable[[], object], stop: threading.Event) -> tuple[int, set[int]]:
    """Says how and where this process runs, after the stop."""
    ready()
    stop.wait()
    return os.sched_getscheduler(0), os.sched_getaffinity(0)


def test_rivals_give_way_and_keep_to_their_core() -> None:
    core = min(os.sched_getaffinity(0))
    with rival(core, placed) as end:
        assert os.sched_getscheduler(0) == os.SCHED_OTHER, "the quiet client doesn't"
        assert end() == (os.SCHED_IDLE, {core})


def test_the_block_begins_when_everybody_was_there_once() -> None:
    acted: Counter[int] = Counter()
    stop = threading.Event()

    def act(number: int) -> Iterator[None]:
        while True:
            acted[number] += 1
            yield

    def ready() -> None:
        assert set(acted) == set(range(8))
        stop.set()

    together(ready, stop, [act(number) for number in range(8)])
    assert min(acted.values()) >= 1


def test_computing_ends_at_the_stop() -> None:
    stop = threading.Event()
    compute(stop.set, stop)
    assert not [each for each in threading.enumerate() if each.name == "rival"]


def test_keeping_busy_without_a_server_counts_no_answer() -> None:
    stop = threading.Event()
    found = tenants.keep_busy(stop.set, stop, NOBODY, 3)
    assert found.throughput == 0
    assert found.errors["no answer"] >= 3


def test_ratio_is_of_the_same_round_and_of_all() -> None:
    rows = {row.metric: row for row in ratio_rows({}, [ALONE, ALONE], [BESIDE, ALONE])}
    assert rows["p99 ratio"].samples == (2.5, 1.0)
    assert rows["p99 ratio of all rounds"].samples == (2.5,)
    (missing,) = ratio_rows({}, [ALONE], [Heard()])
    assert missing.samples == ()
    assert missing.note == "no right answer"


def test_rows_tell_a_worker_from_the_rest_and_name_errors() -> None:
    rows = {row.metric: row for row in latency_rows({"when": "beside"}, [ALONE, BESIDE])}
    assert rows["p50"].samples == (0.010, 0.010)
    assert rows["p99"].samples == (0.020, 0.050)
    assert rows["p99 of all rounds"].samples == (0.050,)
    assert rows["inside a worker, p99"].samples == (0.005,)
    assert rows["outside of it, p99"].median == pytest.approx(0.045)
    assert rows["errors"].samples == (0, 3)
    assert rows["errors"].note == "status 503: 3"
    errors, missing = latency_rows({}, [Heard([], [], Counter({"no answer": 2}))])
    assert errors.samples == (2,), "told without a latency too"
    assert missing.note == "no right answer"


def test_pinned_clients_and_appliance_share_no_core() -> None:
    there = os.sched_getaffinity(0)
    with child(wait_for_ever) as messages:
        _, process_id = receive(messages)
        with tenants._placed(process_id, tenants.PINNED) as core:
            assert os.sched_getaffinity(0) == {core}
            assert os.sched_getaffinity(process_id) == there - {core}
    assert os.sched_getaffinity(0) == there


class StandingStill:
    """A clock, and an appliance that answers in 1 ms, except when it stands still for 500 ms."""

    now_s = 0.0
    still = range(0)

    def __init__(self, *_: object) -> None:
        self.asked = 0

    def __enter__(self) -> StandingStill:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def infer(self, *_: object) -> Answer:
        self.asked += 1
        latency_s = 0.5 if self.asked in self.still else 0.001
        type(self).now_s += latency_s
        return Answer(Reply({"server-timing": "total;dur=0.5"}, b""), latency_s)

    @classmethod
    def perf_counter(cls) -> float:
        return cls.now_s

    @classmethod
    def sleep(cls, seconds: float) -> None:
        cls.now_s += seconds


@pytest.fixture
def standing_still(monkeypatch: pytest.MonkeyPatch) -> type[StandingStill]:
    monkeypatch.setattr(StandingStill, "now_s", 0.0)
    monkeypatch.setattr(rivals, "Client", StandingStill)
    monkeypatch.setattr(rivals, "time", StandingStill)
    return StandingStill


def test_an_appliance_that_stands_still_shows_where_moments_are_regular(
    standing_still: type[StandingStill], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standing_still, "still", range(51, 52))
    regular = listen_regularly(NOBODY, 2.0, 0.01)
    assert len(regular.latencies) == len(regular.inside) == 200, "one for each moment"
    assert sum(latency > 0.002 for latency in regular.latencies) == 50
    assert regular.p99 > 0.45
    assert all(a >= b for a, b in zip(regular.latencies, regular.inside, strict=True))
    closed = listen(NOBODY, 2.0)
    assert closed.p99 == 0.001, "a closed loop counts it once among many"


def test_moments_that_pass_after_the_end_do_not_count(
    standing_still: type[StandingStill], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standing_still, "still", range(2, 9))
    regular = listen_regularly(NOBODY, 0.1, 0.01)
    assert len(regular.latencies) == 10
    assert regular.p50 == pytest.approx(0.45)


def test_errors_are_counted_once_and_have_no_latency(
    standing_still: type[StandingStill], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(client: StandingStill, *_: object) -> Answer:
        standing_still.now_s += 0.035
        raise ServingError("busy", status=503)

    monkeypatch.setattr(standing_still, "infer", refuse)
    regular = listen_regularly(NOBODY, 0.4, 0.01)
    assert regular.errors == {"status 503": 10}
    assert regular.latencies == []
