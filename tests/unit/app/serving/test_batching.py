"""Threads that wait at one model: who runs with whom, and who needn't wait any more."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from app.errors import CancelledError, DeadlineError, ExecutionError
from app.runner import RunResult
from app.serving import batching
from app.serving.accounts import Accounts
from app.serving.batching import PATIENCE, Batcher
from app.serving.job import Job
from tests.unit.app.serving.worlds import WATCHDOG_S, Crowd, Gate, inputs, until

HOUR_NS = 3_600_000_000_000


@dataclass
class Recorded:
    """Runs batches by noting them; every request gets its own tenant's name back.

    Attributes:
        batches: the tenants of each.
        gate: what runs pass through.
        alike: what decides which requests fit together.
        took_ns: what a run of several takes, on `clock_ns`.
    """

    most: int = 4
    batches: list[list[str]] = field(default_factory=list)
    gate: Gate | None = None
    alike: dict[str, int] = field(default_factory=dict)
    error: Exception | None = None
    took_ns: int = 0
    later_ns: int = 0
    inside: int = 0

    def clock_ns(self) -> int:
        return time.perf_counter_ns() + self.later_ns

    def fits(self, batch: Sequence[Job], job: Job) -> bool:
        return self.alike.get(batch[0].client, 0) == self.alike.get(job.client, 0)

    def run(self, batch: Sequence[Job]) -> list[RunResult | Exception]:
        self.inside += 1
        assert self.inside == 1, "one batch at a time"
        self.batches.append([job.client for job in batch])
        if self.gate is not None:
            self.gate.pass_through()
        self.later_ns += self.took_ns * (len(batch) > 1)
        self.inside -= 1
        if self.error is not None:
            raise self.error
        return [RunResult({"who": np.array([job.client])}, (), 0) for job in batch]


def job(tenant: str, priority: int = 0, deadline_ns: int | None = None) -> Job:
    return Job(
        inputs=inputs(0),
        client=tenant,
        priority=priority,
        deadline_ns=deadline_ns,
        arrived_ns=time.perf_counter_ns(),
    )


def who(batcher: Batcher, tenant: str, priority: int = 0) -> str:
    return str(batcher.run(job(tenant, priority)).outputs["who"][0])


def behind_one(together: Recorded, names: str, batcher: Batcher, crowd: Crowd) -> list[str]:
    """Lets requests wait behind a running one; gives who got which answer."""
    gate = together.gate = Gate()
    first = crowd.ask(who, batcher, "first")
    gate.wait()
    answers = []
    for number, name in enumerate(names, 1):
        answers.append(crowd.ask(who, batcher, name))
        until(lambda number=number: batcher.waiting == number)  # type: ignore[misc]
    gate.opened.set()
    assert first.result(WATCHDOG_S) == "first"
    return [each.result(WATCHDOG_S) for each in answers]


def test_alone_there_is_no_waiting_for_others() -> None:
    together = Recorded()
    batcher = Batcher(together, Accounts(), HOUR_NS)
    for _ in range(3):
        assert who(batcher, "a") == "a"
    assert together.batches == [["a"]] * 3


def test_what_gathers_behind_a_batch_runs_together_and_each_gets_its_own() -> None:
    together = Recorded(most=4)
    batcher = Batcher(together, Accounts(), 0)
    with Crowd() as crowd:
        assert behind_one(together, "abcdef", batcher, crowd) == list("abcdef")
    assert together.batches == [["first"], ["a", "b", "c", "d"], ["e", "f"]]


def test_priority_inside_a_tenant() -> None:
    together = Recorded(most=1)
    batcher = Batcher(together, Accounts(), 0)
    gate = together.gate = Gate()
    order: list[int] = []
    with Crowd() as crowd:
        crowd.ask(who, batcher, "first")
        gate.wait()

        def ask(priority: int) -> None:
            who(batcher, "a", priority)
            order.append(priority)

        for number, priority in enumerate((3, 1, 2), 1):
            crowd.ask(ask, priority)
            until(lambda number=number: batcher.waiting == number)  # type: ignore[misc]
        gate.opened.set()
    assert together.batches == [["first"]] + [["a"]] * 3
    assert sorted(order) == [1, 2, 3]


def test_only_what_fits_runs_together() -> None:
    together = Recorded(alike={"b": 1, "d": 1})
    batcher = Batcher(together, Accounts(), 0)
    with Crowd() as crowd:
        behind_one(together, "abcd", batcher, crowd)
    assert together.batches == [["first"], ["a", "c"], ["b", "d"]]


def test_in_company_the_leader_waits_until_the_batch_is_full() -> None:
    together = Recorded(most=2, took_ns=PATIENCE * HOUR_NS)
    batcher = Batcher(together, Accounts(), HOUR_NS, clock_ns=together.clock_ns)
    with Crowd() as crowd:
        behind_one(together, "ab", batcher, crowd)
        asked = [crowd.ask(who, batcher, name) for name in "cd"]
        assert [each.result(WATCHDOG_S) for each in asked] == ["c", "d"]
    assert sorted(together.batches[-1]) == ["c", "d"], "neither ran alone, an hour wasn't over"


def test_nobody_waits_for_more_than_there_were() -> None:
    together = Recorded(most=8, took_ns=PATIENCE * HOUR_NS)
    batcher = Batcher(together, Accounts(), HOUR_NS, clock_ns=together.clock_ns)
    with Crowd() as crowd:
        behind_one(together, "ab", batcher, crowd)
        asked = [crowd.ask(who, batcher, name) for name in "cd"]
        assert [each.result(WATCHDOG_S) for each in asked] == ["c", "d"]
    assert sorted(together.batches[-1]) == ["c", "d"]


def test_patience_is_a_small_part_of_what_a_batch_takes() -> None:
    together = Recorded(most=2)
    batcher = Batcher(together, Accounts(), HOUR_NS, clock_ns=together.clock_ns)
    with Crowd() as crowd:
        behind_one(together, "ab", batcher, crowd)
        assert who(batcher, "c") == "c"
    assert together.batches == [["first"], ["a", "b"], ["c"]]


def test_an_error_of_the_whole_batch_reaches_everybody_and_the_next_runs() -> None:
    together = Recorded()
    batcher = Batcher(together, Accounts(), 0)
    together.error = ExecutionError(3, "load", "no")
    with Crowd() as crowd:
        gate = together.gate = Gate()
        asked = [crowd.ask(who, batcher, name) for name in "abc"]
        gate.opened.set()
        for each in asked:
            with pytest.raises(ExecutionError, match="partition 3"):
                each.result(WATCHDOG_S)
    together.error = None
    assert who(batcher, "a") == "a"


def test_who_has_cost_less_goes_first() -> None:
    together = Recorded(most=1)
    accounts = Accounts()
    batcher = Batcher(together, accounts, 0)
    accounts.charge("a", 1000)
    with Crowd() as crowd:
        behind_one(together, "aab", batcher, crowd)
    assert together.batches == [["first"], ["b"], ["a"], ["a"]]


def test_a_deadline_ends_the_waiting_and_nothing_of_it_runs() -> None:
    together = Recorded(gate=Gate())
    now_ns = [0]
    batcher = Batcher(together, Accounts(), 0)
    assert together.gate is not None
    with Crowd() as crowd:
        first = crowd.ask(who, batcher, "a")
        together.gate.wait()
        late = job("late", deadline_ns=1000)
        late.clock_ns = lambda: now_ns[0]
        waiting = crowd.ask(batcher.run, late)
        until(lambda: batcher.waiting == 1)
        assert not waiting.done()
        now_ns[0] = 1000
        with pytest.raises(DeadlineError):
            waiting.result(WATCHDOG_S)
        together.gate.opened.set()
        first.result(WATCHDOG_S)
    assert together.batches == [["a"]]


def test_one_whose_client_left_is_not_run() -> None:
    together = Recorded(gate=Gate())
    gone = threading.Event()
    batcher = Batcher(together, Accounts(), 0)
    assert together.gate is not None
    with Crowd() as crowd:
        crowd.ask(who, batcher, "a")
        together.gate.wait()
        left = job("left")
        left.gone = gone.is_set
        waiting = crowd.ask(batcher.run, left)
        until(lambda: batcher.waiting == 1)
        gone.set()
        with pytest.raises(CancelledError):
            waiting.result(WATCHDOG_S)
        together.gate.opened.set()
    assert together.batches == [["a"]]
    assert batcher.waiting == 0


def test_one_that_is_over_before_it_begins() -> None:
    together = Recorded()
    batcher = Batcher(together, Accounts(), 0)
    with pytest.raises(DeadlineError):
        batcher.run(job("a", deadline_ns=0))
    assert together.batches == []
    assert who(batcher, "b") == "b"


def test_who_has_to_lead_is_told_and_needs_no_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "LOOK_S", 2 * WATCHDOG_S)
    together = Recorded(most=2)
    batcher = Batcher(together, Accounts(), 0)
    with Crowd() as crowd:
        assert behind_one(together, "abcdef", batcher, crowd) == list("abcdef")
    assert together.batches == [["first"], ["a", "b"], ["c", "d"], ["e", "f"]]


def test_many_threads_each_get_their_own() -> None:
    together = Recorded(most=8)
    batcher = Batcher(together, Accounts(), 100_000)
    names = [f"tenant {number}" for number in range(300)]
    with Crowd() as crowd:
        asked = [crowd.ask(who, batcher, name) for name in names]
        assert [each.result(WATCHDOG_S) for each in asked] == names
    assert sorted(name for batch in together.batches for name in batch) == sorted(names)
    assert max(map(len, together.batches)) <= 8
