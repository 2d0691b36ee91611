"""Looking for bundles: not too often, not for too long, and never what was before the question."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from app.errors import BundleIntegrityError, BusyError
from app.serving.models import Scan
from app.serving.scanner import Scanner
from tests.unit.app.serving.worlds import WATCHDOG_S, Crowd, until


class Folder:
    """Answers with the number of the look; may be made to take its time or to fail."""

    def __init__(self) -> None:
        self.looks = 0
        self.now = 0.0
        self.error: Exception | None = None
        self.answers = threading.Event()
        self.answers.set()

    def look(self) -> Scan:
        self.looks += 1
        number = self.looks
        assert self.answers.wait(WATCHDOG_S)
        if self.error is not None:
            raise self.error
        return Scan((), ((str(number), BundleIntegrityError()),))

    def clock(self) -> float:
        return self.now


def number(scan: Scan) -> int:
    return int(scan.refused[0][0])


@pytest.fixture
def folder() -> Iterator[Folder]:
    made = Folder()
    yield made
    made.answers.set()


def scanner(folder: Folder, *, rescan_s: float = 1.0, deadline_s: float = 1000.0) -> Scanner:
    return Scanner(folder.look, rescan_s=rescan_s, deadline_s=deadline_s, clock=folder.clock)


def test_it_is_looked_at_again_only_after_a_pause(folder: Folder) -> None:
    found = scanner(folder)
    seen = []
    for now in (0.0, 0.1, 0.99, 1.0, 1.5, 1.99, 2.0, 7.0, 7.5):
        folder.now = now
        seen.append(number(found.recent()))
    assert seen == [1, 1, 1, 2, 2, 2, 3, 4, 4]


def test_without_a_pause_it_is_looked_at_each_time(folder: Folder) -> None:
    found = scanner(folder, rescan_s=0)
    assert found.latest == Scan(())
    assert [number(found.recent()) for _ in range(3)] == [1, 2, 3]
    assert number(found.latest) == 3


def test_fresh_is_a_look_that_began_after_the_question(folder: Folder) -> None:
    found = scanner(folder)
    assert number(found.fresh()) == 1
    folder.answers.clear()
    with Crowd() as crowd:
        folder.now = 5.0
        early = crowd.ask(found.recent)
        until(lambda: folder.looks == 2)
        late = crowd.ask(found.fresh)
        folder.answers.set()
        assert number(early.result(WATCHDOG_S)) in (2, 3)
        assert number(late.result(WATCHDOG_S)) == 3


def test_many_who_ask_together_are_one_look(folder: Folder) -> None:
    found = scanner(folder)
    found.fresh()
    folder.now = 5.0
    folder.answers.clear()
    with Crowd() as crowd:
        asked = [crowd.ask(found.recent) for _ in range(20)]
        until(lambda: folder.looks == 2)
        folder.answers.set()
        assert {number(each.result(WATCHDOG_S)) for each in asked} == {2}


def test_past_the_deadline_nobody_waits(folder: Folder) -> None:
    found = scanner(folder, deadline_s=0.05)
    assert number(found.fresh()) == 1
    folder.answers.clear()
    folder.now = 5.0
    threading.Timer(0.01, lambda: setattr(folder, "now", 6.0)).start()
    assert number(found.recent()) == 1, "what was seen last"
    assert number(found.recent()) == 1
    assert folder.looks == 2, "the one that is under way is the only one"
    with pytest.raises(BusyError, match="doesn't answer"):
        scanner_of_the_past(found, folder)
    folder.answers.set()
    until(lambda: number(found.recent()) >= 2)


def scanner_of_the_past(found: Scanner, folder: Folder) -> None:
    """Asks for a fresh look while time goes on."""
    ticks = threading.Timer(0.01, lambda: setattr(folder, "now", folder.now + 10))
    ticks.start()
    try:
        found.fresh(1.0)
    finally:
        ticks.join()


def test_a_folder_that_never_answered_is_an_error(folder: Folder) -> None:
    folder.answers.clear()
    found = scanner(folder, deadline_s=0.0)
    with pytest.raises(BusyError, match="doesn't answer"):
        found.recent()
    with pytest.raises(BusyError, match="doesn't answer"):
        found.fresh(0.0)


def test_what_looking_raised_is_raised_until_it_passes(folder: Folder) -> None:
    found = scanner(folder, rescan_s=0)
    assert number(found.recent()) == 1
    folder.error = LookupError("a defect")
    for ask in (found.recent, found.fresh):
        with pytest.raises(LookupError):
            ask()
    folder.error = None
    assert number(found.recent()) == 4
