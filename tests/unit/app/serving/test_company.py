"""Who is here lately besides a tenant."""

from __future__ import annotations

from app.serving.company import LATELY_NS, Company


def test_company_is_another_tenant_of_the_last_while() -> None:
    now_ns = [3]
    company = Company(lambda: now_ns[0])
    assert not company.has("a")
    company.came("a")
    assert not company.has("a")
    assert company.has("b")
    company.came("b")
    company.came("b")
    assert company.has("a")
    assert company.has("b")
    now_ns[0] += LATELY_NS - 1
    assert company.came("a") == []
    assert company.has("a")
    now_ns[0] += 1
    assert not company.has("a")
    assert company.has("b"), "a came a moment ago"


def test_who_came_long_ago_is_forgotten_once() -> None:
    now_ns = [0]
    company = Company(lambda: now_ns[0])
    for tenant in "abca":
        assert company.came(tenant) == []
    now_ns[0] += LATELY_NS
    assert company.came("d") == ["b", "c", "a"]
    assert company.came("d") == []
