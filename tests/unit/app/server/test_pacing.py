"""Who goes on next while there are requests, and after what rest."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import cast

import pytest

from app.server.connection import Connection
from app.server.fruitless import FIRST_WAIT_S, FREE_ENDS
from app.server.pacing import HANDSHAKE_REST, LEAST_BODY_REST, MOST_BODY_REST, Pacing
from app.server.peers import Peer


@dataclass
class State:
    is_established: bool = False
    tenant: str | None = None


def peer(host: str, state: State | None = None) -> Peer:
    return Peer(cast(socket.socket, None), host, cast(Connection, state or State()))


def waiting(hosts: str) -> tuple[Pacing, list[Peer]]:
    found = Pacing(100)
    peers = [peer(host) for host in hosts]
    assert all(found.add(each) for each in peers)
    return found, peers


def test_addresses_take_turns() -> None:
    found, _ = waiting("aaab")
    order = []
    while (each := found.take(0.0, is_busy=False)) is not None:
        found.took(0.0, 0.0)
        order.append(each.host)
    assert order == ["a", "b", "a", "a"]


def test_while_there_are_requests_a_step_is_followed_by_a_rest() -> None:
    found, peers = waiting("aa")
    assert found.patience_s(10.0) == 0.0
    assert found.take(10.0, is_busy=True) is peers[0]
    found.took(10.0, 10.5)
    due = 10.5 + 0.5 * HANDSHAKE_REST
    assert found.patience_s(11.0) == due - 11.0
    assert found.take(due - 0.01, is_busy=False) is None
    assert found.take(due, is_busy=False) is peers[1]
    assert found.patience_s(due) is None


def test_without_requests_steps_follow_one_another() -> None:
    found, peers = waiting("aa")
    assert found.take(10.0, is_busy=False) is peers[0]
    found.took(10.0, 10.5)
    assert found.take(10.5, is_busy=False) is peers[1]


def test_a_request_that_came_and_went_between_two_steps_counts() -> None:
    found, _ = waiting("aaa")
    found.take(10.0, is_busy=True)
    found.took(10.0, 10.5)
    assert found.take(11.0, is_busy=True) is None
    assert found.take(12.0, is_busy=False) is not None
    found.took(12.0, 12.5)
    assert found.take(12.6, is_busy=False) is None


def test_who_left_gets_no_turn() -> None:
    found, peers = waiting("ab")
    found.remove(peers[0], 0.0)
    found.remove(peers[0], 0.0)
    assert found.take(0.0, is_busy=False) is peers[1]
    assert found.take(0.0, is_busy=False) is None


def test_there_are_only_so_many_places() -> None:
    found = Pacing(1)
    assert found.add(peer("a"))
    assert not found.add(peer("a"))


def test_a_shorter_rest_may_be_asked_for() -> None:
    found, peers = waiting("aa")
    assert found.take(10.0, is_busy=True) is peers[0]
    found.took(10.0, 10.5, rest=1)
    assert found.take(10.9, is_busy=True) is None
    assert found.take(11.0, is_busy=True) is peers[1]


def in_vain(found: Pacing, host: str, times: int, now: float) -> None:
    for _ in range(times):
        found.remove(peer(host), now)


def test_handshakes_of_an_address_that_brings_nothing_wait_beside_requests() -> None:
    found, peers = waiting("aab")
    in_vain(found, "a", FREE_ENDS + 1, 10.0)
    assert found.take(10.0, is_busy=True) is peers[2], "another address doesn't wait"
    found.took(10.0, 10.0)
    assert found.take(10.0, is_busy=True) is None
    wait = found.patience_s(10.0)
    assert wait is not None
    assert abs(wait - FIRST_WAIT_S) < 1e-9
    then = 10.0 + FIRST_WAIT_S
    assert found.take(then, is_busy=True) is peers[0]
    found.took(then, then)
    assert found.take(then, is_busy=True) is None, "every step waits"
    assert found.take(then + FIRST_WAIT_S, is_busy=True) is peers[1]
    assert found.patience_s(11.0) is None


def test_without_requests_such_handshakes_wait_for_nobody() -> None:
    found, peers = waiting("a")
    in_vain(found, "a", 100, 10.0)
    assert found.take(10.0, is_busy=False) is peers[0]


def test_bodies_of_such_an_address_do_not_wait_behind_its_handshakes() -> None:
    found, _ = waiting("a")
    in_vain(found, "a", 100, 10.0)
    body = peer("a", State(is_established=True))
    found.add(body)
    assert found.take(10.0, is_busy=True) is body
    found.took(10.0, 10.0)
    assert found.take(10.0, is_busy=True) is None


def test_an_answer_ends_the_waiting() -> None:
    found, peers = waiting("a")
    in_vain(found, "a", 100, 10.0)
    assert found.take(10.0, is_busy=True) is None
    found.answered(peer("a"), [b"HTTP/1.1 200 OK\r\n"])
    assert found.take(10.0, is_busy=True) is peers[0]


@pytest.mark.parametrize(
    ("status", "waits"), [("200 OK", False), ("400 Bad Request", True), ("503 Busy", True)]
)
def test_connections_that_got_what_they_asked_for_end_as_they_like(
    status: str, waits: bool
) -> None:
    found, _ = waiting("a")
    for _ in range(100):
        client = peer("a")
        found.answered(client, [f"HTTP/1.1 {status}\r\n".encode()])
        found.remove(client, 10.0)
    assert (found.take(10.0, is_busy=True) is None) is waits


def bodies(found: Pacing, tenants: str) -> list[Peer]:
    peers = [peer(tenant, State(is_established=True, tenant=tenant)) for tenant in tenants]
    assert all(found.add(each) for each in peers)
    return peers


def test_bodies_do_not_rest_for_requests_of_their_own_tenant() -> None:
    found = Pacing(100)
    bodies(found, "aaaa")
    found.asked("a")
    assert found.body_rest("a") == 0


@pytest.mark.parametrize(
    ("tenants", "rest"), [("a", 1), ("aa", 1), ("aaaa", 3), ("a" * 64, MOST_BODY_REST)]
)
def test_bodies_rest_the_longer_the_more_there_are(tenants: str, rest: float) -> None:
    found = Pacing(100)
    bodies(found, tenants)
    found.asked("b")
    assert found.body_rest("a") == rest


def test_tenants_with_as_many_bodies_rest_alike_and_least() -> None:
    found = Pacing(100)
    bodies(found, "aaaaabbbbb")
    assert found.body_rest("a") == found.body_rest("b") == LEAST_BODY_REST


@pytest.mark.parametrize("left", [False, True])
def test_bodies_that_wait_no_more_do_not_add_up(left: bool) -> None:
    found = Pacing(100)
    found.asked("b")
    for _ in range(10):
        (body,) = bodies(found, "a")
        if left:
            found.remove(body, 0.0)
        else:
            assert found.take(0.0, is_busy=False) is body
            found.took(0.0, 0.0)
    assert found.body_rest("a") == LEAST_BODY_REST
