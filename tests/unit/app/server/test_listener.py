"""When new connections are looked for."""

from __future__ import annotations

import selectors
import socket
from collections.abc import Iterator

import pytest

from app.server.listener import Listener


@pytest.fixture
def selector() -> Iterator[selectors.BaseSelector]:
    with selectors.DefaultSelector() as found:
        yield found


def test_a_pause_leaves_clients_waiting_and_ends_at_its_moment(
    selector: selectors.BaseSelector,
) -> None:
    listener = Listener(selector)
    address = listener.open(("127.0.0.1", 0))
    assert listener.patience_s(1.0) is None
    listener.pause(until=5.0)
    with socket.create_connection(address):
        assert selector.select(0) == []
        assert listener.patience_s(3.0) == 2.0
        listener.resume(4.9)
        assert selector.select(0) == []
        listener.resume(5.0)
        assert listener.patience_s(6.0) is None
        assert len(selector.select(5)) == 1
        ((client, host),) = listener.accept(6.0)
        client.close()
        assert host[0] == "127.0.0.1"
    listener.close()
    listener.resume(7.0)
    assert listener.patience_s(7.0) is None, "closed for good"


def test_one_call_accepts_a_few_and_leaves_the_others_for_the_next(
    selector: selectors.BaseSelector,
) -> None:
    listener = Listener(selector)
    address = listener.open(("127.0.0.1", 0))
    clients = [socket.create_connection(address) for _ in range(20)]
    accepted = []
    while selector.select(0):
        some = [client for client, _ in listener.accept(0.0)]
        assert 0 < len(some) < len(clients)
        accepted += some
    assert len(accepted) == len(clients)
    for each in (*clients, *accepted):
        each.close()
    listener.close()
