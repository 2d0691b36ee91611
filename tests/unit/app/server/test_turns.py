"""Who gets a worker: tenants take turns, and nobody fills the server up."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from app.server.transport import TransportLimits
from app.server.wsgi import QUEUED_NS
from tests.unit.app.server.clients import (
    WATCHDOG_S,
    Application,
    Client,
    Neighbour,
    request_bytes,
    serving,
    until,
)


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


def test_a_crowd_leaves_places_to_who_comes_anew() -> None:
    application = Application()
    limits = TransportLimits(max_queued_requests=3)
    with (
        serving(application, workers=1, limits=limits) as server,
        clients(server.address, "127.0.0.2", 4) as crowd,
        clients(server.address, "127.0.0.3", 1) as others,
    ):
        ask_all(crowd[:1], "/wait")
        assert application.entered.acquire(timeout=WATCHDOG_S)
        for number, client in enumerate(crowd[1:3], 2):
            client.send(request_bytes("GET", "/echo"))
            until(lambda number=number: server.front.requests == number)  # type: ignore[misc]
        refused = crowd[3].ask("GET", "/echo")
        assert refused.status == 503
        assert refused.headers["retry-after"] == "1"
        ask_all(others, "/echo")
        until(lambda: server.front.requests == 4)
        application.release.set()
        assert others[0].response().status == 200
        assert [client.response().status for client in crowd[:3]] == [200] * 3
        assert crowd[3].ask("GET", "/echo").status == 200, "its connection stayed open"


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


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_the_application_is_told_how_long_a_request_has_waited(workers: int) -> None:
    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        answer = json.dumps(environ[QUEUED_NS]).encode()
        start_response("200 OK", [("Content-Length", str(len(answer)))])
        return [answer]

    with serving(application, workers=workers) as server, Client(server.address) as client:
        assert 0 < client.ask("GET", "/").json() < WATCHDOG_S * 1e9
