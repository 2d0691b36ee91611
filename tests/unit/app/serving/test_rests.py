"""How long a busy tenant rests, and that nobody else does."""

from __future__ import annotations

import pytest

from app.serving.rests import LATELY_NS, MOST_NS, MOST_REST, Rests

MS = 1_000_000


class Bench:
    """Rests on a clock of their own; a has four requests and b has one."""

    def __init__(self, requests: str = "aaaab") -> None:
        self.now_ns = 5 * MS
        self.rests = Rests(lambda: self.now_ns)
        for tenant in requests:
            self.rests.came(tenant)


def test_a_busy_tenant_rests_longer_than_it_computed() -> None:
    bench = Bench()
    bench.rests.left("a", 200_000)
    bench.rests.left("b", 200_000)
    assert bench.rests.left_ns("a") == 3 * 200_000, "four are three more than one"
    assert bench.rests.left_ns("b") == 0, "it has one request at a time"
    bench.now_ns += 3 * 200_000
    assert bench.rests.left_ns("a") == 0


@pytest.mark.parametrize("requests", ["aaaa", "ab", "aabb"])
def test_nobody_rests_alone_or_among_equals(requests: str) -> None:
    bench = Bench(requests)
    for tenant in requests:
        bench.rests.left(tenant, MOST_NS)
    assert bench.rests.left_ns("a") == 0
    bench.rests.came("c")
    assert bench.rests.left_ns("a") == 0, "what was computed before doesn't count"


def test_nobody_rests_for_those_who_left_long_ago() -> None:
    bench = Bench()
    bench.rests.left("b")
    bench.now_ns += LATELY_NS
    bench.rests.left("a", MOST_NS)
    assert bench.rests.left_ns("a") > 0
    bench.now_ns += LATELY_NS
    bench.rests.left("a", MOST_NS)
    assert bench.rests.left_ns("a") == 0


def test_rests_of_requests_that_ran_at_the_same_time_add_up() -> None:
    bench = Bench()
    for _ in range(3):
        bench.rests.left("a", 100_000)
    assert bench.rests.left_ns("a") == 3 * 3 * 100_000


def test_tenants_much_alike_rest_little() -> None:
    bench = Bench("a" * 11 + "b" * 10)
    bench.rests.left("a", 200_000)
    assert bench.rests.left_ns("a") == 20_000


@pytest.mark.parametrize("computed_ns", [MOST_NS, MOST_NS + 1, 10**12])
def test_a_model_that_computes_for_long_costs_no_more(computed_ns: int) -> None:
    bench = Bench("a" * 64 + "b")
    bench.rests.left("a", computed_ns)
    assert bench.rests.left_ns("a") == MOST_REST * MOST_NS
