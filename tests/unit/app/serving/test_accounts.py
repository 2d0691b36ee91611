"""What clients have cost, and how many requests each has at a time."""

from __future__ import annotations

from app.serving.accounts import LATELY_NS, Accounts
from tests.unit.app.serving.worlds import Clock


def test_cost_moves_a_client_back_and_nobody_else() -> None:
    accounts = Accounts()
    accounts.charge("a", 100)
    assert accounts.standing("b") < accounts.standing("a") == 100


def test_who_comes_anew_stands_where_the_last_work_began() -> None:
    accounts = Accounts()
    for _ in range(3):
        accounts.end("a", accounts.begin("a"), 100)
    assert accounts.standing("b") == 200, "as if it had been here all along"
    assert accounts.standing("a") == 300


def test_work_that_has_begun_counts_as_what_it_cost_before() -> None:
    accounts = Accounts()
    accounts.end("a", accounts.begin("a"), 100)
    expected_ns = accounts.begin("a")
    assert (expected_ns, accounts.standing("a")) == (100, 200)
    accounts.end("a", expected_ns, 30)
    assert accounts.standing("a") == 130


def test_requests_at_a_time_count_for_a_while_after_their_end() -> None:
    clock = Clock()
    accounts = Accounts(clock)
    for client in "aab":
        accounts.came(client)
    assert accounts.others_requests("b") == 2
    assert accounts.others_requests("new") == 3
    accounts.left("a")
    accounts.left("a")
    assert accounts.others_requests("b") == 2
    clock.now_ns += LATELY_NS
    assert accounts.others_requests("b") == 2, "those of the window before count"
    clock.now_ns += LATELY_NS
    assert accounts.others_requests("b") == 0
    assert accounts.others_requests("a") == 1, "b's request runs on"


def test_names_do_not_pile_up() -> None:
    clock = Clock()
    accounts = Accounts(clock)
    for number in range(1000):
        client = f"client {number}"
        accounts.came(client)
        accounts.end(client, accounts.begin(client), 1)
        accounts.left(client)
        accounts.charge(f"address {number}", 1)
    for _ in range(3):
        clock.now_ns += LATELY_NS
        accounts.came("last")
        accounts.end("last", accounts.begin("last"), 1000)
        accounts.left("last")
    assert len(accounts._finish_ns) <= 1
    assert len(accounts._last_cost_ns) <= 1
