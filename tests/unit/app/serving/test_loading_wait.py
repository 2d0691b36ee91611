"""Requests that wait while a model loads end when nobody needs them any more."""

from __future__ import annotations

import threading

import pytest

from app.errors import ApplianceError, CancelledError, DeadlineError
from app.serving import residence
from tests.unit.app.serving.worlds import WATCHDOG_S, Crowd, FakeBundle, Gate, World, answer, until


def slow_to_load() -> tuple[World, FakeBundle, Gate]:
    """Two models of which one fits, the first being loaded."""
    one, two = FakeBundle("one"), FakeBundle("two")
    world = World([one, two], budget_bytes=100).start()
    two.events.clear()
    two.open_gate = Gate()
    return world, two, two.open_gate


@pytest.mark.parametrize("name", ["one", "two"])
def test_a_wait_for_loading_ends_at_the_deadline(name: str) -> None:
    """Also for a model that only waits because another one is being loaded."""
    world, two, gate = slow_to_load()
    with Crowd() as crowd:
        first = crowd.ask(world.ask, "two")
        gate.wait()
        model = world.catalogue.find(name)
        with pytest.raises(DeadlineError):
            answer(model, timeout_us=1000)
        assert not first.done(), "it didn't wait for the end of loading"
        gate.opened.set()
        assert first.result(WATCHDOG_S) == 2
    assert two.events == ["open"]
    assert model.statistics().reasons["REJECTED"] == 1


def test_a_wait_for_loading_ends_when_the_client_leaves() -> None:
    world, two, gate = slow_to_load()
    gone = threading.Event()
    with Crowd() as crowd:
        first = crowd.ask(world.ask, "two")
        gate.wait()
        model = world.catalogue.find("two")
        waiting = crowd.ask(answer, model, gone=gone.is_set)
        gone.set()
        assert isinstance(waiting.exception(WATCHDOG_S), CancelledError)
        assert not first.done()
        gate.opened.set()
        assert first.result(WATCHDOG_S) == 2
    assert two.events == ["open"]
    assert not model.users
    assert model.statistics().reasons["CANCELED"] == 1


def test_who_waits_for_a_model_doesnt_wait_for_what_loads_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(residence, "STAY", 0)
    world, two, gate = slow_to_load()
    gate.opened.set()
    model = world.catalogue.find("two")
    waits = threading.Event()

    def gone() -> bool:
        waits.set()
        return False

    with Crowd() as crowd, world.residence.loading:
        waiting = crowd.ask(answer, model, gone=gone)
        assert waits.wait(WATCHDOG_S)
        world.residence.open(model, lambda _: True)
        assert waiting.result(WATCHDOG_S) == 2, "loading is still held, as for another model"
    assert two.events == ["open"]


def test_nothing_is_loaded_for_who_has_left_already() -> None:
    world, two, gate = slow_to_load()
    gate.opened.set()
    model = world.catalogue.find("two")
    with pytest.raises(CancelledError):
        answer(model, gone=lambda: True)
    assert (two.events, world.bundles[0].events) == ([], ["verify", "open"])
    assert answer(model) == 2


def test_a_load_that_was_begun_ends_for_the_others() -> None:
    """Its own request is given up then, without a run."""
    world, two, gate = slow_to_load()
    gone = threading.Event()
    two.gate = Gate()
    with Crowd() as crowd:
        model = world.catalogue.find("two")
        first = crowd.ask(answer, model, gone=gone.is_set)
        gate.wait()
        gone.set()
        gate.opened.set()
        assert isinstance(first.exception(WATCHDOG_S), ApplianceError)
        assert not two.gate.reached.acquire(blocking=False)
        two.gate.opened.set()
        assert world.ask("two") == 2
    assert two.events == ["open"]


def test_many_that_give_up_leave_nothing_behind() -> None:
    world, _, gate = slow_to_load()
    with Crowd() as crowd:
        first = crowd.ask(world.ask, "two")
        gate.wait()
        model = world.catalogue.find("two")
        waiting = [crowd.ask(answer, model, timeout_us=20_000 + n) for n in range(16)]
        for each in waiting:
            assert isinstance(each.exception(WATCHDOG_S), DeadlineError)
        gate.opened.set()
        assert first.result(WATCHDOG_S) == 2
        until(lambda: not model.users)
    assert model.waiting == 0
