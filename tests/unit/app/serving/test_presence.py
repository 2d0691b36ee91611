"""How large a batch may be beside tenants that ask for less."""

from __future__ import annotations

import pytest

from app.serving.presence import LATELY_NS, Presence


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
    ("requests", "busier"),
    [("", ""), ("a", ""), ("aaa", ""), ("ab", ""), ("aab", "a"), ("aabccc", "ac")],
)
def test_busier_is_who_has_more_at_a_time_than_another(requests: str, busier: str) -> None:
    bench = Bench()
    bench.ask(requests)
    assert {each for each in "abcd" if bench.presence.is_busier(each)} == set(busier)


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
