"""Several models and versions in one budget: lazily loaded, unloaded, switched."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from app.errors import (
    ApplianceError,
    BundleFormatError,
    BundleIntegrityError,
    BundleReadError,
    BusyError,
    CancelledError,
    DeadlineError,
    ExecutionError,
    InputError,
    KeyUnavailableError,
    MemoryBudgetError,
    NotFoundError,
)
from app.limits import MAX_LOADED_MODELS
from app.serving.catalogue import Catalogue
from app.serving.models import IndexEntry, Scan
from app.serving.residence import STAY, Residence
from tests.unit.app.serving.worlds import (
    WATCHDOG_S,
    Clock,
    Crowd,
    FakeBundle,
    Gate,
    World,
    answer,
    inputs,
    until,
)


def three(budget_bytes: int = 200) -> World:
    """Three models of 100 bytes each."""
    bundles = [FakeBundle(name) for name in ("one", "two", "three")]
    return World(bundles, budget_bytes=budget_bytes)


# --- finding -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model_id", "version", "said"),
    [
        ("other", None, "there is no model 'other'"),
        ("sums", "2", "has no version '2'"),
        ("sums", "01", "has no version '01'"),
        ("sums", "", "has no version"),
        ("x" * 500, None, "x{80}'"),
    ],
)
def test_model_that_is_not_there(model_id: str, version: str | None, said: str) -> None:
    world = World([FakeBundle()]).start()
    with pytest.raises(NotFoundError, match=said):
        world.catalogue.find(model_id, version)
    with pytest.raises(NotFoundError, match=said):
        world.catalogue.statistics(model_id, version)


def test_without_a_version_the_newest_answers_and_older_ones_when_asked() -> None:
    old = FakeBundle(version=2)
    world = World([old, FakeBundle(version=10)]).start()
    assert old.events == [], "what nobody asked for isn't even verified"
    assert world.ask() == 20
    assert world.ask(version="2") == 4
    assert old.events == ["verify", "open"]


# --- starting ------------------------------------------------------------------------------------


def test_at_start_as_many_are_loaded_as_fit_and_the_others_verified() -> None:
    world = three().start()
    events = {bundle.name: bundle.events for bundle in world.bundles}
    loaded = ["verify", "open"]
    assert events == {"one": loaded, "three": loaded, "two": ["verify"]}
    assert "loads when it is asked" in "".join(world.said)
    assert world.residence.used_bytes == 200


def test_a_broken_model_keeps_the_appliance_from_starting() -> None:
    world = World([FakeBundle(verify_error=BundleIntegrityError())])
    with pytest.raises(BundleIntegrityError):
        world.start()
    refused = World([], refused=[("sums", BundleIntegrityError())])
    with pytest.raises(BundleIntegrityError):
        refused.catalogue.start({"sums"})


def test_at_start_a_broken_new_version_gives_way_to_the_old_one() -> None:
    """As after a crash while the new one was there already."""
    broken = FakeBundle(version=2, verify_error=BundleIntegrityError())
    world = World([FakeBundle(), broken]).start()
    assert world.ask() == 2
    assert world.states() == {("sums", 1): "READY", ("sums", 2): "UNAVAILABLE"}


def test_nothing_to_serve_is_no_start() -> None:
    """Also where no single model is required, as with a folder of bundles."""
    broken = World([FakeBundle(verify_error=BundleIntegrityError())])
    with pytest.raises(BundleIntegrityError):
        broken.catalogue.start()
    refused = World([], refused=[("x.bundle", BundleIntegrityError())])
    with pytest.raises(BundleIntegrityError):
        refused.catalogue.start()
    World([]).catalogue.start()  # a folder that is still empty


def test_a_bundle_that_nobody_configured_hinders_nothing() -> None:
    world = World([FakeBundle()], refused=[("x.bundle", BundleIntegrityError())]).start()
    assert world.ask() == 2
    refused = IndexEntry("x.bundle", 0, "UNAVAILABLE", str(BundleIntegrityError()))
    assert refused in world.catalogue.index()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KeyUnavailableError("key file /run/keys/a: No such file"), "the model's key can't be had"),
        (BundleFormatError("/host/a.bundle: another CPU"), "the model's bundle can't be used"),
        (ExecutionError(0, "load", "onnxruntime: /host/a"), "the model could not be run"),
        (BundleIntegrityError(), str(BundleIntegrityError())),
    ],
)
def test_the_index_says_no_path(error: ApplianceError, said: str) -> None:
    broken = FakeBundle(version=2, verify_error=error)
    world = World([FakeBundle(), broken], refused=[("x.bundle", error)]).start()
    reasons = {(entry.name, entry.version): entry.reason for entry in world.catalogue.index()}
    assert reasons == {("sums", 1): "", ("sums", 2): said, ("x.bundle", 0): said}


# --- the budget ----------------------------------------------------------------------------------


def test_a_model_is_loaded_when_asked_and_the_one_used_longest_ago_goes() -> None:
    world = three().start()
    one, two, third = world.bundles
    for name in ("one", "two", "three", "one"):
        assert world.ask(name) == 2
        assert world.residence.used_bytes <= 200
    for bundle in world.bundles:
        bundle.events.clear()
    world.ask("two")
    assert (one.events, two.events, third.events) == ([], ["open"], ["close"])
    assert set(world.states().values()) == {"READY"}, "each is served when it is asked"


def test_what_is_in_use_is_never_unloaded() -> None:
    world = three(100).start()
    world.ask("one")
    busy = world.bundles[0]
    gate = busy.gate = Gate()
    with Crowd() as crowd:
        running = crowd.ask(world.ask, "one")
        gate.wait()
        with pytest.raises(DeadlineError):
            answer(world.catalogue.find("two"), timeout_us=100_000)
        assert "close" not in busy.events
        waiting = crowd.ask(world.ask, "two")
        gate.opened.set()
        assert running.result(WATCHDOG_S) == 2
        assert waiting.result(WATCHDOG_S) == 2, "it waited for the memory"


def test_memory_that_never_comes_is_waited_for_only_so_long() -> None:
    world = World(three().bundles, budget_bytes=100, room_timeout_s=0).start()
    gate = world.bundles[0].gate = Gate()
    with Crowd() as crowd:
        running = crowd.ask(world.ask, "one")
        gate.wait()
        with pytest.raises(BusyError, match="needs 100 bytes of memory"):
            world.ask("two")
        gate.opened.set()
        assert running.result(WATCHDOG_S) == 2
    until(lambda: world.states()["two", 1] == "READY" and _serves(world, "two"))


def _serves(world: World, name: str) -> bool:
    """Whether a request is answered now; others' memory comes back after their stay."""
    try:
        return world.ask(name) == 2
    except BusyError:
        return False


def test_two_models_for_whose_memory_clients_compete_take_turns_and_nobody_is_refused() -> None:
    world = three(100).start()
    with Crowd() as crowd:
        asked = [crowd.ask(world.ask, name) for _ in range(20) for name in ("one", "two")]
        assert [future.result(WATCHDOG_S) for future in asked] == [2] * 40
    assert world.bundles[0].events.count("open") <= 20


def test_a_model_is_not_pushed_out_before_it_was_there_for_some_times_its_loading() -> None:
    clock = Clock()
    slow = FakeBundle("slow", clock=clock, open_ns=1000)
    quick = FakeBundle("quick", clock=clock, open_ns=10)
    world = World([quick, slow], budget_bytes=100, clock_ns=clock, room_timeout_s=0)
    world.start()
    clock.now_ns += STAY * 10
    assert world.ask("slow") == 2
    clock.now_ns += STAY * 1000 - 1
    with pytest.raises(BusyError):
        world.ask("quick")
    clock.now_ns += 1
    assert world.ask("quick") == 2


def test_a_model_that_is_loaded_on_request_waits_for_nobody_s_stay() -> None:
    clock = Clock()
    slow, other = FakeBundle("slow", clock=clock, open_ns=1000), FakeBundle("z")
    world = World([slow, other], budget_bytes=100, clock_ns=clock, room_timeout_s=0).start()
    with pytest.raises(BusyError):
        world.ask("z")
    world.catalogue.load("z")
    assert world.ask("z") == 2


def test_a_share_is_equal_and_no_more_than_a_model_can_use() -> None:
    small = FakeBundle("small", least_bytes=10, most_bytes=20)
    large = FakeBundle("large", least_bytes=300, most_bytes=10_000)
    middle = FakeBundle("middle", least_bytes=10, most_bytes=10_000)
    world = World([small, large, middle], budget_bytes=900).start()
    shares = {model.model_id: model.share_bytes for model in world.catalogue.models()}
    assert shares == {"small": 20, "large": 300, "middle": 300}


def test_no_more_models_are_loaded_than_there_are_threads_for() -> None:
    count = MAX_LOADED_MODELS + 2
    bundles = [FakeBundle(f"m{n:02}", least_bytes=1, most_bytes=1) for n in range(count)]
    world = World(bundles).start()
    for bundle in bundles:
        world.ask(bundle.name)
        loaded = [model for model in world.catalogue.models() if model.is_loaded]
        assert len(loaded) == MAX_LOADED_MODELS


def test_a_model_that_can_never_fit_says_so_and_the_others_serve_on() -> None:
    world = three().start()
    world.bundles[1].open_error = MemoryBudgetError(3, "load", 500, 200)
    for _ in range(2):
        with pytest.raises(ExecutionError, match="needs 500 bytes, the budget is 200") as error:
            world.ask("two")
        assert not isinstance(error.value, MemoryBudgetError), "no request is at fault"
    assert world.ask("one") == world.ask("three") == 2
    assert world.states()["two", 1] == "UNAVAILABLE"


def test_whatever_fails_while_loading_is_that_model_s_end_and_gives_its_memory_back() -> None:
    world = three(100)
    world.start()
    world.bundles[1].open_error = OSError("disk")
    with pytest.raises(ExecutionError, match="unexpected OSError"):
        world.ask("two")
    assert world.residence.used_bytes == 0
    world.bundles[1].open_error = None
    with pytest.raises(ExecutionError):
        world.ask("two")
    world.catalogue.load("two")
    assert world.ask("two") == 2


def test_requests_that_come_while_a_model_loads_wait_and_load_it_once() -> None:
    world = three(100).start()
    world.ask("one")
    world.bundles[1].events.clear()
    with Crowd() as crowd:
        asked = [crowd.ask(world.ask, "two") for _ in range(8)]
        assert [each.result(WATCHDOG_S) for each in asked] == [2] * 8
    assert world.bundles[1].events.count("open") == 1


# --- load and unload on request ------------------------------------------------------------------


def test_unloaded_on_request_it_stays_away_until_loaded() -> None:
    world = World([FakeBundle()]).start()
    model = world.catalogue.find("sums")
    world.catalogue.unload("sums")
    assert world.bundles[0].events[-1] == "close"
    assert world.residence.used_bytes == 0
    with pytest.raises(NotFoundError, match="unloaded"):
        world.ask()
    with pytest.raises(NotFoundError, match="unloaded"):
        answer(model)
    assert not model.is_available
    assert world.states() == {("sums", 1): "UNAVAILABLE"}
    world.catalogue.load("sums")
    assert world.ask() == 2
    for change in (world.catalogue.load, world.catalogue.unload):
        with pytest.raises(NotFoundError):
            change("other")


def test_unloading_lets_running_requests_end() -> None:
    bundle = FakeBundle()
    world = World([bundle]).start()
    gate = bundle.gate = Gate()
    with Crowd() as crowd:
        running = crowd.ask(world.ask)
        gate.wait()
        world.catalogue.unload("sums")
        assert world.states() == {("sums", 1): "UNLOADING"}
        with pytest.raises(NotFoundError):
            world.ask()
        assert "close" not in bundle.events
        gate.opened.set()
        assert running.result(WATCHDOG_S) == 2
    assert bundle.events[-1] == "close"
    assert world.residence.used_bytes == 0


# --- new versions --------------------------------------------------------------------------------


def test_a_new_version_answers_only_once_it_is_loaded_on_request() -> None:
    world = World([FakeBundle()]).start()
    new = FakeBundle(version=2)
    world.bundles.append(new)
    assert world.states() == {("sums", 1): "READY", ("sums", 2): "READY"}
    assert world.ask() == 2, "looking at the index switches nothing"
    assert new.events == []
    world.catalogue.load("sums")
    assert world.ask() == 4
    assert world.bundles[0].events[-1] == "close", "the old one was idle"
    assert world.ask(version="1") == 2, "it is still there to be asked"


def test_the_switch_is_atomic_and_the_old_version_drains() -> None:
    old, new = FakeBundle(), FakeBundle(version=2)
    world = World([old]).start()
    gate = old.gate = Gate()
    with Crowd() as crowd:
        running = crowd.ask(world.ask)
        gate.wait()
        world.bundles.append(new)
        world.catalogue.load("sums")
        assert world.ask() == 4
        assert world.states()["sums", 1] == "UNLOADING"
        assert "close" not in old.events
        gate.opened.set()
        assert running.result(WATCHDOG_S) == 2, "it began with the old one and ends with it"
    assert old.events[-1] == "close"
    assert world.residence.used_bytes == 100


def test_under_load_every_answer_is_of_one_version_and_none_fails() -> None:
    world = World([FakeBundle()]).start()
    answers: list[float] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            answers.append(world.ask())

    with Crowd() as crowd:
        clients = [crowd.ask(ask) for _ in range(4)]
        for version in (2, 3, 4):
            world.bundles.append(FakeBundle(version=version))
            world.catalogue.load("sums")
            seen = len(answers)
            until(lambda seen=seen: len(answers) > seen + 8)  # type: ignore[misc]
        stop.set()
        for client in clients:
            client.result(WATCHDOG_S)
    assert set(answers) == {2, 4, 6, 8}
    assert world.ask() == 8
    # A request that had found the old one just before may have loaded it again; nobody uses it.
    assert not any(model.users for model in world.catalogue.models())
    assert world.residence.used_bytes <= world.budget_bytes


@pytest.mark.parametrize("where", ["verify_error", "open_error"])
@pytest.mark.parametrize("budget_bytes", [1000, 100])
def test_a_broken_new_version_leaves_the_old_one_serving(where: str, budget_bytes: int) -> None:
    """Also where there is no room for both at a time."""
    world = World([FakeBundle()], budget_bytes=budget_bytes).start()
    broken = FakeBundle(version=2)
    setattr(broken, where, BundleIntegrityError())
    world.bundles.append(broken)
    with pytest.raises(BundleIntegrityError):
        world.catalogue.load("sums")
    assert world.ask() == 2
    assert world.states() == {("sums", 1): "READY", ("sums", 2): "UNAVAILABLE"}
    with pytest.raises(BundleIntegrityError):
        world.catalogue.find("sums", "2")
    assert world.residence.used_bytes == 100


def test_without_room_for_both_the_old_version_is_drained_first() -> None:
    old = FakeBundle()
    world = World([old], budget_bytes=100).start()
    gate = old.gate = Gate()
    with Crowd() as crowd:
        running = crowd.ask(world.ask)
        gate.wait()
        world.bundles.append(FakeBundle(version=2))
        loading = crowd.ask(world.catalogue.load, "sums")
        model = world.catalogue.models()[0]
        until(lambda: model.is_leaving)
        with pytest.raises(BusyError, match="makes room"):
            world.ask()
        gate.opened.set()
        assert running.result(WATCHDOG_S) == 2
        loading.result(WATCHDOG_S)
    assert world.ask() == 4
    assert world.residence.used_bytes == 100


def test_an_old_version_that_does_not_end_is_not_replaced() -> None:
    old = FakeBundle()
    world = World([old], budget_bytes=100, drain_timeout_s=0.01).start()
    gate = old.gate = Gate()
    with Crowd() as crowd:
        running = crowd.ask(world.ask)
        gate.wait()
        world.bundles.append(FakeBundle(version=2))
        with pytest.raises(BusyError, match="in use"):
            world.catalogue.load("sums")
        gate.opened.set()
        assert running.result(WATCHDOG_S) == 2
    assert world.ask() == 2
    world.catalogue.load("sums")
    assert world.ask() == 4


def test_a_bundle_written_again_under_its_version_counts_once_the_old_one_is_gone() -> None:
    world = World([FakeBundle()]).start()
    again = FakeBundle(number=7)
    world.bundles[:] = [again]
    world.catalogue.load("sums")
    assert again.events == [], "a version that is loaded is what it was"
    world.catalogue.unload("sums")
    world.catalogue.load("sums")
    assert world.ask() == 2
    assert again.events == ["verify", "open"]


def test_a_bundle_that_left_serves_on_until_it_is_unloaded() -> None:
    world = World([FakeBundle(), FakeBundle("other")]).start()
    gone = world.bundles.pop(0)
    assert ("sums", 1) in world.states()
    assert world.ask() == 2
    world.catalogue.unload("sums")
    assert gone.events[-1] == "close"
    assert ("sums", 1) not in world.states()
    with pytest.raises(NotFoundError, match="there is no model"):
        world.ask()


def test_the_index_does_not_wait_for_a_model_that_loads() -> None:
    """Whoever asks for it would else keep a worker for as long as the largest model takes."""
    world = three(100).start()
    world.ask("one")
    gate = world.bundles[1].open_gate = Gate()
    with Crowd() as crowd:
        asked = crowd.ask(world.ask, "two")
        gate.wait()
        world.bundles.append(FakeBundle("four"))
        assert world.states()["two", 1] == "LOADING"
        assert ("four", 1) not in world.states(), "it is noticed once nothing loads"
        gate.opened.set()
        assert asked.result(WATCHDOG_S) == 2
    assert world.states()["four", 1] == "READY"


# --- what may pass -------------------------------------------------------------------------------


PASSING = (KeyUnavailableError("no key"), BundleReadError(Path("/b/x"), OSError(5, "bad disk")))


def clocked(bundles: list[FakeBundle]) -> tuple[World, Callable[[float], None]]:
    """A world, and what sets its clock, in seconds."""
    now_ns = 0

    def set_clock(now_s: float) -> None:
        nonlocal now_ns
        now_ns = int(now_s * 1e9)

    world = World(bundles)
    world.residence = Residence(1000, clock_ns=lambda: now_ns)
    world.catalogue = Catalogue(
        lambda: Scan(tuple(world.bundles)), world.residence, clock_ns=lambda: now_ns
    )
    return world, set_clock


@pytest.mark.parametrize("error", PASSING)
@pytest.mark.parametrize("where", ["verify_error", "open_error"])
def test_what_could_not_be_had_is_tried_again_ever_more_seldom(
    error: Exception, where: str
) -> None:
    bundle = FakeBundle()
    world, set_clock = clocked([bundle])
    setattr(bundle, where, error)
    with pytest.raises(type(error)):
        world.start()
    tries = []
    for second in range(400):
        set_clock(second)
        bundle.events.clear()
        with pytest.raises(type(error)):
            world.ask()
        tries += [second] * bool(bundle.events)
        assert world.states() == {("sums", 1): "UNAVAILABLE"}
    pauses = [after - before for before, after in pairwise(tries)]
    assert pauses[:5] == [2, 4, 8, 16, 32]
    assert set(pauses[5:]) == {60}
    setattr(bundle, where, None)
    set_clock(1000)
    assert world.ask() == 2
    setattr(bundle, where, error)
    world.catalogue.unload("sums")
    assert world.states() == {("sums", 1): "UNAVAILABLE"}


@pytest.mark.parametrize("error", PASSING)
def test_a_version_that_will_be_tried_again_is_not_replaced_by_an_older_one(
    error: Exception,
) -> None:
    """Else whoever keeps a file from being read rolls the model back."""
    new = FakeBundle(version=2)
    world, set_clock = clocked([FakeBundle(), new])
    world.start()
    assert world.ask() == 4
    world.residence.drain(world.catalogue.find("sums"))
    new.open_error = error
    for _ in range(3):
        with pytest.raises(type(error)):
            world.ask()
    new.open_error = None
    set_clock(2)
    assert world.ask() == 4


def test_a_failure_is_found_out_once_by_all_who_wait_for_it() -> None:
    bundle = FakeBundle("two", verify_error=BundleIntegrityError())
    world = World([FakeBundle("one")]).start()
    world.bundles.append(bundle)
    world.states()
    with Crowd() as crowd:
        with world.residence.loading:
            asked = [crowd.ask(world.ask, "two") for _ in range(8)]
        for each in asked:
            assert isinstance(each.exception(WATCHDOG_S), BundleIntegrityError)
    assert bundle.events == ["verify"]


# --- requests and what is counted ----------------------------------------------------------------


def test_wrong_inputs_load_nothing_and_join_no_batch() -> None:
    world = three(100).start()
    world.ask("one")
    model = world.catalogue.find("two")
    before = list(world.bundles[1].events)
    with pytest.raises(InputError, match="expected the inputs"):
        model.infer({"x": np.zeros((1, 4), np.float32)}, tenant="t")
    assert world.bundles[1].events == before
    assert model.statistics().reasons["OTHER"] == 1


def test_a_deadline_counts_from_the_arrival_at_the_server() -> None:
    world = World([FakeBundle()]).start()
    model = world.catalogue.find("sums")
    assert answer(model, timeout_us=60_000_000, queued_ns=1_000_000) == 2
    assert answer(model, timeout_us=0, queued_ns=10**15) == 2, "0 is none"
    with pytest.raises(DeadlineError):
        answer(model, timeout_us=1000, queued_ns=1_000_001)
    with pytest.raises(CancelledError):
        answer(model, gone=lambda: True)
    assert [kind for kind, _ in world.bundles[0].readers[0].events].count("run") == 2
    found = model.statistics()
    assert (found.success.count, found.fail.count) == (2, 2)
    assert (found.reasons["REJECTED"], found.reasons["CANCELED"]) == (1, 1)


def test_counts_of_requests_that_ran_together() -> None:
    bundle = FakeBundle(lock_step=4)
    world = World([bundle]).start()
    model = world.catalogue.find("sums")
    gate = bundle.gate = Gate()
    with Crowd() as crowd:
        asked = [crowd.ask(answer, model)]
        gate.wait()
        for number in range(3):
            asked.append(crowd.ask(answer, model))
            until(lambda number=number: model.waiting == number + 1)  # type: ignore[misc]
        gate.opened.set()
        assert [each.result(WATCHDOG_S) for each in asked] == [2] * 4
    (found,) = world.catalogue.statistics("sums", "1")
    assert {size: span.count for size, span in found.batches.items()} == {1: 1, 3: 1}
    assert found.success.count == found.queue.count == found.compute_infer.count == 4
    assert found.success.ns >= found.queue.ns + found.compute_infer.ns > 0
    assert found.loads.count == 1
    assert found.last_inference_ms > 0
    assert found.decrypted_bytes == len(b"weights"), "kept in memory from the first run on"
    assert found.spans["success"] == found.success


def test_a_copy_of_the_counters_does_not_change() -> None:
    world = World([FakeBundle()]).start()
    before = world.catalogue.statistics(None)[0]
    world.ask()
    assert (before.success.count, before.batches) == (0, {})
    model = world.catalogue.find("sums")
    model.recorder.read_input(5)
    model.recorder.wrote_output(6)
    now = world.catalogue.statistics("sums")[0]
    assert (now.compute_input.ns, now.compute_output.ns, now.success.count) == (5, 6, 1)


def test_closing_gives_everything_back() -> None:
    world = three().start()
    world.catalogue.close()
    assert world.residence.used_bytes == 0
    assert all(model.is_idle for model in world.catalogue.models())


def test_a_failing_kernel_is_the_request_s_own_and_gives_its_place_back() -> None:
    world = World([FakeBundle()]).start()
    model = world.catalogue.find("sums")
    for _ in range(200):
        with pytest.raises(MemoryBudgetError):
            model.infer(inputs(1, rows=1 << 18), tenant="t")
    assert world.ask() == 2
    assert model.statistics().reasons["BACKEND"] == 200
