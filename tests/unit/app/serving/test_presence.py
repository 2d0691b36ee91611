"""How large a batch may be beside tenants that ask for less."""

from __future__ import annotations

import pytest

from app.serving.presence import FAR_FEWER, LATELY_NS, Presence


class Bench:
    """Tenants that come and go on a clock of their own."""

    def __init__(self) -> None:
        self.now_ns = 7
        self.presence = Presence(lambda: self.now_ns)

    def come(self, tenants: str) -> None:
        for tenant in tenants:
            self.presence.came(tenant)

    def ask(self, tenants: str) -> None:
        """Requests at the same time, all answered."""
        self.come(tenants)
        for tenant in tenants:
            self.presence.left(tenant)

    @property
    def most(self) -> int:
        return self.presence.most_together()


@pytest.mark.parametrize(
    ("tenants", "most"),
    [
        ("", 0),
        ("a", 1),
        ("aaaaaaaa", 8),
        ("aaaaaaaab", 1),
        ("baaaaaaaa", 1),
        ("aaaaaaaabb", 2),
        ("aaaabbbb", 4),
        ("aaaaaaaabc", 2),
        ("abcdefgh", 7),
    ],
)
def test_a_batch_is_what_all_but_the_busiest_would_make(tenants: str, most: int) -> None:
    bench = Bench()
    bench.come(tenants)
    assert bench.most == most


@pytest.mark.parametrize(
    ("requests", "tenant", "excess"),
    [
        ("", "a", 0),
        ("aaa", "a", 0),
        ("aaa", "b", 0),
        ("ab", "a", 0),
        ("aab", "a", 1),
        ("aab", "b", 0),
        ("aaabb", "a", 0.5),
        ("aabccc", "c", 2),
    ],
)
def test_excess_is_beyond_the_tenant_with_the_fewest(
    requests: str, tenant: str, excess: float
) -> None:
    bench = Bench()
    bench.ask(requests)
    assert bench.presence.excess(tenant) == excess


@pytest.mark.parametrize(
    ("tenant", "others", "quieter"),
    [("a", "c", True), ("c", "a", False), ("a", "b", False), ("a", "bc", False), ("b", "c", False)],
)
def test_quieter_is_who_has_far_fewer_at_a_time_than_each(
    tenant: str, others: str, quieter: bool
) -> None:
    bench = Bench()
    bench.ask("a" + "bb" + "c" * FAR_FEWER)
    assert bench.presence.is_quieter(tenant, others) is quieter


def test_others_are_tenants_of_the_last_while() -> None:
    bench = Bench()
    assert not bench.presence.has_others("a")
    bench.ask("a")
    assert not bench.presence.has_others("a")
    assert bench.presence.has_others("b")
    bench.now_ns += LATELY_NS
    bench.ask("b")
    assert bench.presence.has_others("a")
    assert bench.presence.has_others("b"), "the stretch before counts"
    bench.now_ns += LATELY_NS
    assert not bench.presence.has_others("b")


def test_the_most_at_a_time_counts_and_not_how_often() -> None:
    bench = Bench()
    for _ in range(5):
        bench.ask("b")
    bench.ask("aaa")
    bench.ask("bb")
    assert bench.most == 2


def test_whoever_asks_no_more_is_forgotten() -> None:
    bench = Bench()
    bench.ask("b")
    bench.come("aaaa")
    bench.now_ns += LATELY_NS
    assert bench.most == 1, "the stretch before counts"
    bench.now_ns += LATELY_NS
    assert bench.most == 4, "requests that are still here do"


def test_long_silence_forgets_both_stretches() -> None:
    bench = Bench()
    bench.ask("aab")
    bench.now_ns += 2 * LATELY_NS
    assert bench.most == 0
    bench.ask("aa")
    assert bench.most == 2


def test_those_of_a_batch_that_took_long_are_remembered() -> None:
    bench = Bench()
    bench.come("aaa")
    bench.now_ns += 5 * LATELY_NS
    for _ in range(3):
        bench.presence.left("a")
    bench.come("a")
    assert bench.most == 3


def test_stretches_begin_anew_though_nobody_looks() -> None:
    bench = Bench()
    bench.ask("b")
    bench.now_ns += LATELY_NS
    bench.ask("aa")
    assert bench.most == 1
    bench.now_ns += LATELY_NS
    bench.ask("aa")
    assert bench.most == 2
