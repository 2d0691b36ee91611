"""How long a tenant rests, and that nobody rests alone."""

from __future__ import annotations

import pytest

from app.serving.rests import LATELY_NS, MOST_NS, REST, Rests

MS = 1_000_000


class Bench:
    """Rests on a clock of their own; tenants a and b have just asked."""

    def __init__(self) -> None:
        self.now_ns = 5 * MS
        self.rests = Rests(lambda: self.now_ns)
        self.rests.came("a")
        self.rests.came("b")


def test_in_company_a_tenant_rests_longer_than_it_computed() -> None:
    bench = Bench()
    bench.rests.worked("a", 200_000)
    assert bench.rests.left_ns("a") == REST * 200_000
    assert bench.rests.left_ns("b") == 0
    bench.now_ns += REST * 200_000
    assert bench.rests.left_ns("a") == 0


def test_alone_nobody_rests() -> None:
    bench = Bench()
    bench.now_ns += LATELY_NS
    bench.rests.came("a")
    bench.rests.worked("a", 200_000)
    assert bench.rests.left_ns("a") == 0
    bench.rests.came("b")
    assert bench.rests.left_ns("a") == 0, "what was computed alone doesn't count later"


def test_a_rest_ends_when_the_others_have_left() -> None:
    bench = Bench()
    bench.now_ns += LATELY_NS - 1
    bench.rests.came("a")
    bench.rests.worked("a", MOST_NS)
    assert bench.rests.left_ns("a") > 0
    bench.now_ns += 1
    assert bench.rests.left_ns("a") == 0


def test_rests_of_requests_that_ran_at_the_same_time_add_up() -> None:
    bench = Bench()
    for _ in range(3):
        bench.rests.worked("a", 100_000)
    assert bench.rests.left_ns("a") == 3 * REST * 100_000


@pytest.mark.parametrize("computed_ns", [MOST_NS, MOST_NS + 1, 10**12])
def test_a_model_that_computes_for_long_costs_no_more(computed_ns: int) -> None:
    bench = Bench()
    bench.rests.worked("a", computed_ns)
    assert bench.rests.left_ns("a") == REST * MOST_NS


def test_tenants_that_ask_no_more_are_forgotten() -> None:
    bench = Bench()
    for number in range(1000):
        bench.now_ns += LATELY_NS // 10
        bench.rests.came(f"t{number}")
        bench.rests.worked(f"t{number}", MOST_NS)
    known = {f"t{number}" for number in range(1000) if bench.rests.left_ns(f"t{number}")}
    assert known <= {"t999", "t998"}
    assert len(vars(bench.rests)["_came_ns"]) <= 11
    assert len(vars(bench.rests)["_due_ns"]) <= 11
