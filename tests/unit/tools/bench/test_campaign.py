from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.unit.tools.bench.results import result, row
from tools.bench.campaign import Case, Step, run_cases
from tools.bench.results import Row
from tools.errors import BenchmarkError


def good(name: str) -> Case:
    """A case with one row."""

    def measure(step: Step) -> Iterator[Row]:
        step()
        yield row(name, 1.0)

    return Case(name, 1, measure)


def bad(name: str, error: BaseException) -> Case:
    """A case that fails after its first row."""

    def measure(step: Step) -> list[Row]:
        step()
        raise error

    return Case(name, 2, measure)


@pytest.mark.parametrize("error", [BenchmarkError("too slow"), OSError("no disk")])
def test_one_failure_loses_no_other_case(error: Exception) -> None:
    found = result([])
    run_cases(found, [good("a"), bad("b", error), good("c")], quiet=True)
    assert [each.labels["mode"] for each in found.rows] == ["a", "c"]
    assert [(each.case, each.reason) for each in found.failures] == [("b", str(error))]
    assert not found.partial


def test_ctrl_c_keeps_what_is_finished() -> None:
    found = result([])
    run_cases(found, [good("a"), bad("b", KeyboardInterrupt()), good("c")], quiet=True)
    assert [each.labels["mode"] for each in found.rows] == ["a"]
    assert found.partial
    assert found.failures == []


def test_sigterm_ends_a_campaign_like_ctrl_c() -> None:
    def measure(_step: Step) -> list[Row]:
        signal.raise_signal(signal.SIGTERM)
        return []

    before = signal.getsignal(signal.SIGTERM)
    found = result([])
    run_cases(found, [good("a"), Case("b", 1, measure), good("c")], quiet=True)
    assert found.partial
    assert [each.labels["mode"] for each in found.rows] == ["a"]
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_defect_of_ours_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        run_cases(result([]), [bad("a", ZeroDivisionError())], quiet=True)
