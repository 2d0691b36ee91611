"""Whose request a worker gets, and when it has to wait although a worker is free."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from app.serving.accounts import LATELY_NS, Accounts
from app.serving.queue import MOST_NS, REST, RequestQueue, Turn
from tests.unit.app.serving.worlds import WATCHDOG_S, Crowd, until


class World:
    """A queue whose time and costs a test says.

    Args:
        workers: as many `take` at a time.
    """

    def __init__(self, workers: int = 1, places: int = 100) -> None:
        self.now_ns = 0
        self.accounts = Accounts(lambda: self.now_ns)
        self.queue: RequestQueue[str] = RequestQueue(self.accounts, workers, places)

    def offer(self, *requests: str) -> None:
        """Offers requests whose first letter says whose they are."""
        for request in requests:
            assert self.queue.offer(request, request[0])

    def take(self) -> Turn[str]:
        turn = self.queue.take()
        assert turn is not None
        return turn

    def served(self, costs: Iterable[int]) -> list[str]:
        """Takes one request after another, each of which has a cost."""
        served = []
        for cost in costs:
            turn = self.take()
            served.append(turn.request)
            self.queue.done(turn, cost)
        return served


def test_requests_of_one_client_come_in_their_order() -> None:
    world = World()
    world.offer("a1", "a2", "a3")
    assert world.served([5, 1, 9]) == ["a1", "a2", "a3"]


def test_clients_get_the_same_time_not_the_same_number() -> None:
    world = World()
    world.offer(*(f"a{n}" for n in range(4)), *(f"b{n}" for n in range(8)))
    costs = {"a": 30, "b": 10}
    order = ""
    for _ in range(12):
        turn = world.take()
        order += turn.client
        world.queue.done(turn, costs[turn.client])
    assert order[:8].count("b") == 6, "b's cost a third"


def test_who_comes_anew_waits_for_no_backlog() -> None:
    world = World()
    world.offer(*(f"a{n}" for n in range(50)))
    world.served([10] * 5)
    world.offer("b0")
    assert "b0" in world.served([10] * 2)


def test_what_somebody_used_alone_is_not_held_against_it() -> None:
    world = World()
    world.offer(*(f"a{n}" for n in range(20)))
    world.served([1000] * 20)
    world.offer("b0", "a20", "b1", "a21")
    served = world.served([10] * 4)
    assert sorted(served[:2]) == ["a20", "b0"] or sorted(served[1:3]) == ["a20", "b1"]


def test_a_client_that_costs_more_than_was_expected_pays_later() -> None:
    world = World()
    world.offer("a0", "b0", "a1", "b1", "b2")
    assert world.served([100, 10]) == ["a0", "b0"]
    assert world.served([10, 10]) == ["b1", "b2"]
    assert world.served([10]) == ["a1"]


def test_beside_another_one_a_client_has_no_more_at_a_time() -> None:
    world = World(workers=4)
    world.offer("quiet")
    quiet = world.take()
    world.offer(*(f"busy {n}" for n in range(8)))
    first = world.take()
    assert (quiet.client, first.client) == ("q", "b")
    with Crowd() as crowd:
        waiting = crowd.ask(world.take)
        world.queue.done(first, 1)
        assert waiting.result(WATCHDOG_S).client == "b", "one after the other"
        waiting = crowd.ask(world.take)
        assert not waiting.done()
        world.queue.done(quiet, 1)
        world.offer("quiet again")
        assert waiting.result(WATCHDOG_S).request == "quiet again"


def test_a_flood_of_small_requests_rests_after_each_while_others_ask() -> None:
    now_ns = [0]
    accounts = Accounts()
    queue: RequestQueue[str] = RequestQueue(accounts, 4, 100, lambda: now_ns[0])
    accounts.came("quiet")
    for number in range(5):
        assert queue.offer(f"b{number}", "busy")
    turn = queue.take()
    assert turn is not None
    queue.done(turn, MOST_NS // 2)
    assert not queue._may_begin("busy")
    now_ns[0] += REST * MOST_NS // 2
    turn = queue.take()
    assert turn is not None
    queue.done(turn, 10 * MOST_NS)
    now_ns[0] += REST * MOST_NS - 1
    assert not queue._may_begin("busy"), "what a model takes doesn't count"
    now_ns[0] += 1
    assert queue._may_begin("busy")


def test_alone_a_client_leaves_one_worker() -> None:
    world = World(workers=4)
    world.offer(*(f"a{n}" for n in range(8)))
    for _ in range(3):
        world.take()
    with Crowd() as crowd:
        waiting = crowd.ask(world.take)
        world.offer("b")
        assert waiting.result(WATCHDOG_S).request == "b"


def test_who_is_gone_for_long_holds_nobody_back() -> None:
    world = World(workers=4)
    world.offer("quiet")
    world.served([1])
    world.offer("a0", "a1", "a2")
    first = world.take()
    world.now_ns += LATELY_NS
    with Crowd() as crowd:
        waiting = crowd.ask(world.take)
        until(lambda: len(world.queue) == 2)
        world.now_ns += LATELY_NS
        assert waiting.result(WATCHDOG_S).request == "a1"
    world.queue.done(first, 1)


def test_a_client_has_a_bounded_number_of_places() -> None:
    world = World(places=4)
    world.offer("a0", "a1")
    assert not world.queue.offer("a2", "a")
    assert world.queue.offer("b0", "b")
    assert len(world.queue) == 3


def test_the_end_sends_everybody_home() -> None:
    world = World(workers=2)
    with Crowd() as crowd:
        waiting = [crowd.ask(world.queue.take) for _ in range(2)]
        world.queue.end()
        assert [future.result(WATCHDOG_S) for future in waiting] == [None, None]


def test_many_threads_take_everything_once() -> None:
    world = World(workers=8, places=10_000)
    taken: list[str] = []
    lock = threading.Lock()

    def work() -> None:
        while (turn := world.queue.take()) is not None:
            with lock:
                taken.append(turn.request)
            world.queue.done(turn, 1)

    requests = [f"{client}{n}" for n in range(100) for client in "abcdefgh"]
    with Crowd() as crowd:
        for _ in range(8):
            crowd.ask(work)
        world.offer(*requests)
        until(lambda: len(taken) == len(requests))
        world.queue.end()
    assert sorted(taken) == sorted(requests)
