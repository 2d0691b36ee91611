"""The queue that cheroot's workers take requests from."""

from __future__ import annotations

import threading
from collections.abc import Callable

from app.serving.fair import FairQueue
from app.serving.queue import RequestQueue, Waiting
from app.serving.rests import MOST_NS, Rests
from tests.unit.app.serving.worlds import WATCHDOG_S, Crowd, until


def make(running: int = 10) -> RequestQueue[str]:
    return RequestQueue(FairQueue(10, 5, running))


def test_tenants_take_turns() -> None:
    queue = make()
    for tenant, request in (("a", "a1"), ("a", "a2"), ("b", "b1")):
        assert queue.offer(request, tenant) is None
    assert queue.qsize() == 3
    assert [queue.get() for _ in range(3)] == ["a1", "b1", "a2"]
    assert queue.qsize() == 0


def test_a_worker_that_waits_gets_what_comes() -> None:
    queue = make()
    with Crowd() as crowd:
        got = [crowd.ask(queue.get) for _ in range(3)]
        for number in range(3):
            queue.offer(f"r{number}", "a")
        assert sorted(each.result(WATCHDOG_S) for each in got) == ["r0", "r1", "r2"]


def test_a_tenant_at_its_limit_waits_until_one_of_its_own_is_done() -> None:
    queue = make(running=1)
    queue.offer("a1", "a")
    queue.offer("a2", "a")
    assert queue.get() == "a1"
    with Crowd() as crowd:
        waiting = crowd.ask(queue.get)
        queue.offer("b1", "b")
        assert waiting.result(WATCHDOG_S) == "b1", "another tenant isn't held up"

        def go_on() -> str | object:
            """As a worker does that has answered."""
            queue.done("a")
            return queue.get()

        queue.done("b")
        assert crowd.ask(go_on).result(WATCHDOG_S) == "a2"


def test_nobody_is_woken_for_what_nobody_may_take() -> None:
    woken: list[str] = []

    class Watched(FairQueue[Waiting[str]]):
        def take(
            self, fits: Callable[[Waiting[str]], bool] = lambda _: True, *, is_turn: bool = True
        ) -> Waiting[str] | None:
            woken.append("looked")
            return super().take(fits, is_turn=is_turn)

    queue = RequestQueue(Watched(10, 5, 1))
    queue.offer("a1", "a")
    assert queue.get() == "a1"
    with Crowd() as crowd:
        idle = crowd.ask(queue.get)
        until(lambda: len(woken) == 2)
        queue.offer("a2", "a")
        queue.offer("b1", "b")
        assert idle.result(WATCHDOG_S) == "b1"
    assert len(woken) == 3


def after_work(queue: RequestQueue[str]) -> None:
    """Tenant a has computed for long and rests now: it had two requests, and b has one."""
    queue.offer("a0", "a")
    queue.offer("a1", "a")
    queue.offer("b1", "b")
    assert [queue.get() for _ in range(3)] == ["a0", "b1", "a1"]
    queue.done("b", MOST_NS)
    queue.done("a")
    queue.done("a", MOST_NS)


def test_a_tenant_that_rests_is_passed_over() -> None:
    now_ns = [0]
    queue: RequestQueue[str] = RequestQueue(FairQueue(10, 5, 10), Rests(lambda: now_ns[0]))
    after_work(queue)
    queue.offer("a2", "a")
    queue.offer("b2", "b")
    assert queue.get() == "b2"
    now_ns[0] = 10 * MOST_NS
    assert queue.get() == "a2"


def test_a_waiting_worker_begins_when_the_rest_ends() -> None:
    queue = make()
    after_work(queue)
    with Crowd() as crowd:
        waiting = [crowd.ask(queue.get) for _ in range(2)]
        queue.offer("a2", "a")
        queue.offer("a3", "a")
        assert sorted(each.result(WATCHDOG_S) for each in waiting) == ["a2", "a3"]


def test_the_rest_is_looked_after_when_its_watcher_gets_something_else() -> None:
    queue = make()
    after_work(queue)
    with Crowd() as crowd:
        waiting = [crowd.ask(queue.get) for _ in range(3)]
        for request in ("a2", "b2", "a3"):
            queue.offer(request, request[0])
        assert sorted(each.result(WATCHDOG_S) for each in waiting) == ["a2", "a3", "b2"]


def test_a_mark_to_end_goes_before_requests() -> None:
    queue = make()
    queue.offer("a1", "a")
    mark = object()
    queue.put(mark)
    assert queue.get() is mark
    assert queue.get() == "a1"


def test_nothing_is_lost_or_served_twice() -> None:
    queue = RequestQueue[int](FairQueue(10_000, 10_000, 2))
    seen: list[int] = []
    lock = threading.Lock()
    end = object()

    def work() -> None:
        while isinstance(request := queue.get(), int):
            with lock:
                seen.append(request)
            queue.done(str(request % 7), request % 5 * 10_000)

    with Crowd() as crowd:
        workers = [crowd.ask(work) for _ in range(4)]
        for number in range(1000):
            assert queue.offer(number, str(number % 7)) is None
        while queue.qsize():
            pass
        for _ in workers:
            queue.put(end)
    assert sorted(seen) == list(range(1000))
