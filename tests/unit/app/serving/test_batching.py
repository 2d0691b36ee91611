"""Threads that wait at one model: who runs with whom, and who needn't wait any more."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from app.errors import (
    BusyError,
    CancelledError,
    DeadlineError,
    ExecutionError,
    MemoryBudgetError,
)
from app.runner import RunResult
from app.serving import batching
from app.serving.batching import PATIENCE, Batcher
from app.serving.job import Job
from app.serving.presence import FAR_FEWER
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
        partitions: a run stops between them.
        partition_ns: what each takes, on `clock_ns`.
        has_place: whether there is room for a guest.
    """

    most: int = 4
    batches: list[list[str]] = field(default_factory=list)
    gate: Gate | None = None
    alike: dict[str, int] = field(default_factory=dict)
    error: Exception | None = None
    took_ns: int = 0
    later_ns: int = 0
    inside: int = 0
    partitions: int = 1
    partition_ns: int = 0
    has_place: bool = True

    def clock_ns(self) -> int:
        return time.perf_counter_ns() + self.later_ns

    def fits(self, batch: Sequence[Job], job: Job) -> bool:
        return self.alike.get(batch[0].tenant, 0) == self.alike.get(job.tenant, 0)

    def has_room(self, job: Job) -> bool:
        return self.has_place

    def run(
        self, batch: Sequence[Job], between: Callable[[], None] | None = None
    ) -> list[RunResult | Exception]:
        self.inside += 1
        assert self.inside == 1 + (between is None), "one batch at a time, and in it one guest"
        self.batches.append([job.tenant for job in batch])
        if self.gate is not None:
            self.gate.pass_through()
        for _ in range(self.partitions):
            if between is not None:
                between()
            self.later_ns += self.partition_ns
        self.later_ns += self.took_ns * (len(batch) > 1)
        self.inside -= 1
        if self.error is not None:
            raise self.error
        return [RunResult({"who": np.array([job.tenant])}, (), 0) for job in batch]


def job(tenant: str, priority: int = 0, deadline_ns: int | None = None) -> Job:
    return Job(
        inputs=inputs(0),
        tenant=tenant,
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
    batcher = Batcher(together, HOUR_NS)
    for _ in range(3):
        assert who(batcher, "a") == "a"
    assert together.batches == [["a"]] * 3


def test_what_gathers_behind_a_batch_runs_together_and_each_gets_its_own() -> None:
    together = Recorded(most=4)
    batcher = Batcher(together, 0)
    with Crowd() as crowd:
        assert behind_one(together, "abcdef", batcher, crowd) == list("abcdef")
    assert together.batches == [["first"], ["a", "b", "c", "d"], ["e", "f"]]


def test_tenants_take_turns_for_places_in_a_batch() -> None:
    together = Recorded(most=2)
    batcher = Batcher(together, 0)
    with Crowd() as crowd:
        assert behind_one(together, "aaaab", batcher, crowd) == list("aaaab")
    assert together.batches[1] == ["a", "b"]


def test_priority_inside_a_tenant() -> None:
    together = Recorded(most=1)
    batcher = Batcher(together, 0)
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
    batcher = Batcher(together, 0)
    with Crowd() as crowd:
        behind_one(together, "abcd", batcher, crowd)
    assert together.batches == [["first"], ["a", "c"], ["b", "d"]]


def test_in_company_the_leader_waits_until_the_batch_is_full() -> None:
    together = Recorded(most=2, took_ns=PATIENCE * HOUR_NS)
    batcher = Batcher(together, HOUR_NS, clock_ns=together.clock_ns)
    with Crowd() as crowd:
        behind_one(together, "ab", batcher, crowd)
        asked = [crowd.ask(who, batcher, name) for name in "cd"]
        assert [each.result(WATCHDOG_S) for each in asked] == ["c", "d"]
    assert sorted(together.batches[-1]) == ["c", "d"], "neither ran alone, an hour wasn't over"


def test_nobody_waits_for_more_than_there_were() -> None:
    together = Recorded(most=8, took_ns=PATIENCE * HOUR_NS)
    batcher = Batcher(together, HOUR_NS, clock_ns=together.clock_ns)
    with Crowd() as crowd:
        behind_one(together, "ab", batcher, crowd)
        asked = [crowd.ask(who, batcher, name) for name in "cd"]
        assert [each.result(WATCHDOG_S) for each in asked] == ["c", "d"]
    assert sorted(together.batches[-1]) == ["c", "d"]


def test_a_busy_tenant_makes_no_larger_batches_than_the_others_would() -> None:
    together = Recorded(most=8)
    batcher = Batcher(together, 0)
    with Crowd() as crowd:
        gate = together.gate = Gate()
        first = crowd.ask(who, batcher, "quiet")
        gate.wait()
        asked = [crowd.ask(who, batcher, "busy") for _ in range(6)]
        until(lambda: batcher.waiting == 6)
        gate.opened.set()
        assert [each.result(WATCHDOG_S) for each in (first, *asked)] == ["quiet"] + ["busy"] * 6
    assert together.batches == [["quiet"]] + [["busy"]] * 6


def test_patience_is_a_small_part_of_what_a_batch_takes() -> None:
    together = Recorded(most=2)
    batcher = Batcher(together, HOUR_NS, clock_ns=together.clock_ns)
    with Crowd() as crowd:
        behind_one(together, "ab", batcher, crowd)
        assert who(batcher, "c") == "c"
    assert together.batches == [["first"], ["a", "b"], ["c"]]


def test_an_error_of_the_whole_batch_reaches_everybody_and_the_next_runs() -> None:
    together = Recorded()
    batcher = Batcher(together, 0)
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


def test_too_many_are_told_so_and_the_others_are_served() -> None:
    together = Recorded(most=1, gate=Gate())
    batcher = Batcher(together, 0, places=3)
    assert together.gate is not None
    with Crowd() as crowd:
        first = crowd.ask(who, batcher, "a")
        together.gate.wait()
        waiting = [crowd.ask(who, batcher, "a") for _ in range(2)]
        until(lambda: batcher.waiting == 2)
        with pytest.raises(BusyError):
            who(batcher, "a")
        rich = crowd.ask(who, batcher, "b")
        until(lambda: sum(each.done() for each in waiting) == 1)
        together.gate.opened.set()
        assert first.result(WATCHDOG_S) == "a"
        assert rich.result(WATCHDOG_S) == "b", "it took a place of the tenant with two"
        ends = [each.exception(WATCHDOG_S) for each in waiting]
        assert sorted(type(end).__name__ for end in ends) == ["BusyError", "NoneType"]


def test_a_deadline_ends_the_waiting_and_nothing_of_it_runs() -> None:
    together = Recorded(gate=Gate())
    now_ns = [0]
    batcher = Batcher(together, 0)
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
    batcher = Batcher(together, 0)
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
    batcher = Batcher(together, 0)
    with pytest.raises(DeadlineError):
        batcher.run(job("a", deadline_ns=0))
    assert together.batches == []
    assert who(batcher, "b") == "b"


def test_who_has_to_lead_is_told_and_needs_no_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "LOOK_S", 2 * WATCHDOG_S)
    together = Recorded(most=2)
    batcher = Batcher(together, 0)
    with Crowd() as crowd:
        assert behind_one(together, "abcdef", batcher, crowd) == list("abcdef")
    assert together.batches == [["first"], ["a", "b"], ["c", "d"], ["e", "f"]]


def test_many_threads_each_get_their_own() -> None:
    together = Recorded(most=8)
    batcher = Batcher(together, 100_000)
    names = [f"tenant {number}" for number in range(300)]
    with Crowd() as crowd:
        asked = [crowd.ask(who, batcher, name) for name in names]
        assert [each.result(WATCHDOG_S) for each in asked] == names
    assert sorted(name for batch in together.batches for name in batch) == sorted(names)
    assert max(map(len, together.batches)) <= 8


def host_and_guests(
    together: Recorded, names: str, batcher: Batcher, *, busy: int = FAR_FEWER
) -> list[list[str]]:
    """Lets requests come while a batch of a busy tenant runs; gives the batches since then."""
    gate = together.gate = Gate()
    with Crowd() as crowd:
        asked = [crowd.ask(who, batcher, "busy") for _ in range(busy)]
        gate.wait()
        until(lambda: batcher.waiting == busy - 1)
        for number, name in enumerate(names, busy):
            asked.append(crowd.ask(who, batcher, name))
            until(lambda number=number: batcher.waiting == number)  # type: ignore[misc]
        gate.opened.set()
        answers = [each.result(WATCHDOG_S) for each in asked]
    assert answers == ["busy"] * busy + list(names)
    return together.batches


def test_a_quiet_tenant_goes_in_between_two_partitions_of_a_busy_one() -> None:
    together = Recorded(most=1, partitions=2)
    ran: list[str] = []
    batcher = Batcher(together, 0, ran=lambda batch: ran.extend(each.tenant for each in batch))
    batches = host_and_guests(together, "q", batcher)
    assert batches == [["busy"], ["q"], *[["busy"]] * 3]
    assert ran == ["q", *["busy"] * 4], "it had its end before its host"


def test_a_tenant_about_as_busy_waits_for_its_turn() -> None:
    together = Recorded(most=1, partitions=3)
    ran: list[str] = []
    batcher = Batcher(together, 0, ran=lambda batch: ran.extend(each.tenant for each in batch))
    host_and_guests(together, "qq", batcher, busy=2)
    assert ran == ["busy", "q", "busy", "q"]


def test_a_batch_waits_for_guests_no_longer_than_it_runs() -> None:
    """All guests take a whole run each; one has been let in before the host has run at all."""
    together = Recorded(most=1, partitions=4, partition_ns=HOUR_NS)
    ran: list[str] = []
    batcher = Batcher(
        together,
        0,
        clock_ns=together.clock_ns,
        ran=lambda batch: ran.extend(each.tenant for each in batch),
    )
    host_and_guests(together, "pqr", batcher)
    assert ran[0] in "pqr"
    assert ran[1] == "busy", "a second one would have kept it for longer than it ran"
    assert sorted(ran) == ["busy"] * FAR_FEWER + ["p", "q", "r"]


def test_without_room_a_quiet_tenant_waits_for_its_turn() -> None:
    together = Recorded(most=1, partitions=2, has_place=False)
    ran: list[str] = []
    batcher = Batcher(together, 0, ran=lambda batch: ran.extend(each.tenant for each in batch))
    host_and_guests(together, "q", batcher)
    assert ran == ["busy", "q", "busy", "busy", "busy"]


def test_a_guest_that_needs_more_room_than_it_looked_runs_at_its_turn() -> None:
    class Tight(Recorded):
        def run(
            self, batch: Sequence[Job], between: Callable[[], None] | None = None
        ) -> list[RunResult | Exception]:
            found = super().run(batch, between)
            return found if between is not None else [MemoryBudgetError(1, "run", 2, 1)]

    together = Tight(most=1, partitions=3)
    ran: list[str] = []
    batcher = Batcher(together, 0, ran=lambda batch: ran.extend(each.tenant for each in batch))
    batches = host_and_guests(together, "q", batcher)
    assert ran == ["busy", "q", "busy", "busy", "busy"]
    assert batches == [["busy"], ["q"], ["q"], *[["busy"]] * 3], "it isn't let in twice"


def test_a_guest_whose_run_fails_is_told_so_and_the_host_goes_on() -> None:
    class Broken(Recorded):
        def run(
            self, batch: Sequence[Job], between: Callable[[], None] | None = None
        ) -> list[RunResult | Exception]:
            if between is None:
                raise ExecutionError(2, "run", "no")
            return super().run(batch, between)

    together = Broken(most=1, partitions=2)
    batcher = Batcher(together, 0)
    gate = together.gate = Gate()
    with Crowd() as crowd:
        busy = [crowd.ask(who, batcher, "busy") for _ in range(FAR_FEWER)]
        gate.wait()
        until(lambda: batcher.waiting == FAR_FEWER - 1)
        quiet = crowd.ask(who, batcher, "q")
        until(lambda: batcher.waiting == FAR_FEWER)
        gate.opened.set()
        assert [each.result(WATCHDOG_S) for each in busy] == ["busy"] * FAR_FEWER
        with pytest.raises(ExecutionError, match="partition 2"):
            quiet.result(WATCHDOG_S)


def test_a_guest_whose_client_left_is_not_run() -> None:
    together = Recorded(most=1, partitions=2, gate=Gate())
    batcher = Batcher(together, 0)
    gone = threading.Event()
    assert together.gate is not None
    with Crowd() as crowd:
        busy = [crowd.ask(who, batcher, "busy") for _ in range(FAR_FEWER)]
        together.gate.wait()
        until(lambda: batcher.waiting == FAR_FEWER - 1)
        left = job("q")
        left.gone = gone.is_set
        waiting = crowd.ask(batcher.run, left)
        until(lambda: batcher.waiting == FAR_FEWER)
        gone.set()
        together.gate.opened.set()
        assert [each.result(WATCHDOG_S) for each in busy] == ["busy"] * FAR_FEWER
        with pytest.raises(CancelledError):
            waiting.result(WATCHDOG_S)
    assert together.batches == [["busy"]] * FAR_FEWER
