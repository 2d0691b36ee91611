"""Who gets a worker: tenants take turns, and nobody fills the server up."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from app.server.http import QUEUED_NS
from app.server.transport import TransportLimits
from tests.unit.app.server.clients import (
    WATCHDOG_S,
    Application,
    Client,
    client_context,
    request_bytes,
    serving,
    until,
)


class Neighbour(Client):
    """A client from another address of this machine, hence another tenant."""

    def __init__(self, address: tuple[str, int], host: str) -> None:
        raw = socket.create_connection(address, WATCHDOG_S, source_address=(host, 0))
        self.socket = client_context().wrap_socket(raw, server_hostname="localhost")
        self.file = self.socket.makefile("rb")


@contextmanager
def clients(address: tuple[str, int], host: str, count: int) -> Iterator[list[Neighbour]]:
    made = [Neighbour(address, host) for _ in range(count)]
    try:
        yield made
    finally:
        for client in made:
            client.close()


def ask_all(asking: list[Neighbour], path: str) -> None:
    for client in asking:
        client.send(request_bytes("GET", path))


def test_slow_requests_of_one_leave_a_worker_to_the_others() -> None:
    application = Application()
    with (
        serving(application, workers=4) as server,
        clients(server.address, "127.0.0.2", 8) as slow,
        clients(server.address, "127.0.0.3", 1) as others,
    ):
        ask_all(slow, "/wait")
        for _ in range(3):
            assert application.entered.acquire(timeout=WATCHDOG_S)
        until(lambda: server.front.requests == 8)
        for _ in range(5):
            assert others[0].ask("GET", "/echo").status == 200
        assert not application.entered.acquire(blocking=False), "the fourth worker stays free"
        application.release.set()
        assert [client.response().status for client in slow] == [200] * 8


def test_a_newcomer_is_next_however_many_of_another_wait() -> None:
    application = Application()
    with (
        serving(application, workers=1) as server,
        clients(server.address, "127.0.0.2", 20) as crowd,
        clients(server.address, "127.0.0.3", 1) as others,
    ):
        ask_all(crowd[:1], "/wait")
        assert application.entered.acquire(timeout=WATCHDOG_S)
        ask_all(crowd[1:], "/crowd")
        until(lambda: server.front.requests == 20)
        ask_all(others, "/newcomer")
        until(lambda: server.front.requests == 21)
        application.release.set()
        assert others[0].response().status == 200
        assert [client.response().status for client in crowd] == [200] * 20
    assert application.calls.index("/newcomer") <= 2


def test_a_full_server_takes_places_from_who_has_the_most() -> None:
    application = Application()
    limits = TransportLimits(max_queued_requests=3)
    with (
        serving(application, workers=1, limits=limits) as server,
        clients(server.address, "127.0.0.2", 4) as crowd,
        clients(server.address, "127.0.0.3", 1) as others,
    ):
        ask_all(crowd[:1], "/wait")
        assert application.entered.acquire(timeout=WATCHDOG_S)
        for number, client in enumerate(crowd[1:], 2):
            client.send(request_bytes("GET", "/echo"))
            until(lambda number=number: server.front.requests == number)  # type: ignore[misc]
        ask_all(others, "/echo")
        refused = crowd[3].response()
        assert refused.status == 503
        assert refused.headers["retry-after"] == "1"
        application.release.set()
        assert others[0].response().status == 200
        assert [client.response().status for client in crowd[:3]] == [200] * 3
        assert crowd[3].ask("GET", "/echo").status == 200, "its connection stayed open"


def test_a_tenant_has_a_bounded_queue() -> None:
    application = Application()
    limits = TransportLimits(max_queued_per_tenant=1)
    with (
        serving(application, workers=1, limits=limits) as server,
        clients(server.address, "127.0.0.2", 3) as crowd,
    ):
        ask_all(crowd[:1], "/wait")
        assert application.entered.acquire(timeout=WATCHDOG_S)
        ask_all(crowd[1:2], "/echo")
        until(lambda: server.front.requests == 2)
        assert crowd[2].ask("GET", "/echo").status == 503
        application.release.set()
        assert crowd[0].response().status == crowd[1].response().status == 200


def test_a_request_whose_client_left_while_it_waited_is_never_run() -> None:
    application = Application()
    with (
        serving(application, workers=1) as server,
        clients(server.address, "127.0.0.2", 1) as first,
    ):
        ask_all(first, "/wait")
        assert application.entered.acquire(timeout=WATCHDOG_S)
        left = Neighbour(server.address, "127.0.0.3")
        left.send(request_bytes("POST", "/left", bytes(1000)))
        until(lambda: server.front.requests == 2)
        left.reset()
        until(lambda: server.front.connections == 1)
        application.release.set()
        assert first[0].response().status == 200
        until(lambda: server.front.requests == 0)
        assert first[0].ask("GET", "/next").status == 200
    assert application.calls == ["/wait", "/next"]


def test_a_displaced_request_whose_client_left_disturbs_nobody() -> None:
    application = Application()
    limits = TransportLimits(max_queued_requests=2)
    with (
        serving(application, workers=1, limits=limits) as server,
        clients(server.address, "127.0.0.2", 2) as crowd,
        clients(server.address, "127.0.0.4", 1) as others,
    ):
        ask_all(crowd[:1], "/wait")
        assert application.entered.acquire(timeout=WATCHDOG_S)
        ask_all(crowd[1:], "/echo")
        until(lambda: server.front.requests == 2)
        left = Neighbour(server.address, "127.0.0.2")
        left.send(request_bytes("GET", "/left"))
        until(lambda: server.front.requests == 3)
        left.reset()
        until(lambda: server.front.connections == 3)
        ask_all(others, "/echo")
        until(lambda: server.front.requests == 3)
        application.release.set()
        assert others[0].response().status == 200
        assert [client.response().status for client in crowd] == [200] * 2
    assert "/left" not in application.calls


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_the_application_is_told_how_long_a_request_has_waited(workers: int) -> None:
    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        answer = json.dumps(environ[QUEUED_NS]).encode()
        start_response("200 OK", [("Content-Length", str(len(answer)))])
        return [answer]

    with serving(application, workers=workers) as server, Client(server.address) as client:
        assert 0 < client.ask("GET", "/").json() < WATCHDOG_S * 1e9
