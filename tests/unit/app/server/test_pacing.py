"""Who goes on next while there are requests, and after what rest."""

from __future__ import annotations

import socket
from typing import cast

from app.server.connection import Connection
from app.server.pacing import HANDSHAKE_REST, Pacing
from app.server.peers import Peer


def peer(host: str) -> Peer:
    return Peer(cast(socket.socket, None), host, cast(Connection, None))


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
    found.remove(peers[0])
    found.remove(peers[0])
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
