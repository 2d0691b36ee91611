"""Strangers and greedy tenants who take all there is: places, memory, the event loop."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

from app.access.admission import Gate
from app.access.policy import Quotas
from app.limits import MAX_REFUSALS, MIB
from app.server.server import ApplianceServer
from app.server.transport import TransportLimits
from app.serving.pool import Pool
from tests.policies import bearer, policy, tenant
from tests.unit.app.server.clients import (
    WATCHDOG_S,
    Application,
    Client,
    Neighbour,
    assert_serves,
    client_hello,
    request_bytes,
    serving,
    until,
)

pytestmark = pytest.mark.usefixtures("tls_library")

CLINIC, TOKEN = tenant("clinic")
BANK, BANK_TOKEN = tenant("bank")
HALF_BODY = b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\nhalf"
HALF_HEAD = b"POST /ec"


@contextmanager
def crowd(server: ApplianceServer, hosts: int, each: int, then: bytes) -> Iterator[None]:
    """Connections of several addresses that send something and are silent from then on."""
    with ExitStack() as stack:
        clients = [
            stack.enter_context(Neighbour(server.address, f"127.0.0.{2 + host}"))
            for host in range(hosts)
            for _ in range(each)
        ]
        for client in clients:
            client.send(then)
        until(lambda: server.front.connections == len(clients))
        yield


# --- places --------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [b"", HALF_HEAD, HALF_BODY], ids=["idle", "head", "body"])
@pytest.mark.parametrize("hosts", [1, 2, 4])
def test_who_holds_all_places_gives_them_up_for_newcomers(said: bytes, hosts: int) -> None:
    limits = TransportLimits(max_connections=8)
    application = Application()
    with (
        serving(application, limits=limits) as server,
        crowd(server, hosts, 8 // hosts, said),
        Neighbour(server.address, "127.0.0.77") as newcomer,
    ):
        assert newcomer.ask("GET", "/echo").status == 200
    assert application.calls == ["/echo"]


def test_a_newcomer_pushes_out_nobody_who_is_served() -> None:
    limits = TransportLimits(max_connections=2)
    application = Application()
    with serving(application, limits=limits) as server, ExitStack() as stack:
        working = [stack.enter_context(Neighbour(server.address)) for _ in "ab"]
        for client in working:
            client.send(request_bytes("GET", "/wait"))
            assert application.entered.acquire(timeout=WATCHDOG_S)
        with socket.create_connection(server.address, timeout=WATCHDOG_S) as late:
            assert late.recv(1) == b"", "there is no place"
        application.release.set()
        assert [client.response().status for client in working] == [200, 200]


@pytest.mark.parametrize("sent", [b"", b"\x16"])
def test_silent_connections_from_ever_new_addresses_push_out_no_handshake(sent: bytes) -> None:
    """An honest client far away is between its two flights while strangers come and go."""
    limits = TransportLimits(max_handshakes=4)
    hello = client_hello()
    with serving(Application(), limits=limits, clock=lambda: 0.0) as server, ExitStack() as stack:
        raw = stack.enter_context(socket.create_connection(server.address, timeout=WATCHDOG_S))
        raw.sendall(hello)
        assert raw.recv(1), "the server's first flight"
        for number in range(50):
            stranger = socket.create_connection(
                server.address, WATCHDOG_S, source_address=(f"127.0.1.{1 + number}", 0)
            )
            stack.enter_context(stranger)
            until(lambda number=number: server.front.counters.accepted == 2 + number)  # type: ignore[misc]
        raw.setblocking(False)
        with pytest.raises(BlockingIOError):
            while raw.recv(1 << 16):
                pass
        if sent:
            stranger.sendall(sent)
        assert_serves(server)


# --- room for bodies -----------------------------------------------------------------------------


def test_declared_bodies_of_some_leave_room_for_others() -> None:
    limits = TransportLimits(max_body_bytes=MIB, max_buffered_bytes=3 * MIB)
    large = b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 1048576\r\n\r\n"
    with (
        serving(Application(), limits=limits, clock=lambda: 0.0) as server,
        crowd(server, 1, 12, large + bytes(700_000)),
        Neighbour(server.address, "127.0.0.77") as victim,
    ):
        assert victim.ask("POST", "/echo", bytes(MIB // 2)).json()["bytes"] == MIB // 2


@pytest.mark.parametrize(
    "first", [b"POST /v2/health/live", b"DELETE /v2/health/ready", b"GET /", b"GET /page/icon.svg"]
)
def test_strangers_hold_no_room_for_bodies(first: bytes) -> None:
    application = Application()
    gate = Gate(policy(CLINIC))
    with serving(application, gate=gate, clock=lambda: 0.0) as server, ExitStack() as stack:
        for _ in range(15):
            client = stack.enter_context(Neighbour(server.address))
            client.send(first + b" HTTP/1.1\r\nHost: h\r\nContent-Length: 33554432\r\n\r\n")
            assert client.response().status in (401, 413)
        assert server.front.buffered_bytes == 0
        with Client(server.address) as known:
            assert known.ask("POST", "/echo", bytes(600_000), **bearer(TOKEN)).status == 200
    assert application.calls == ["/echo"]


def test_a_tenant_s_bodies_are_its_own_part_whatever_address_it_comes_from() -> None:
    limits = TransportLimits(max_body_bytes=MIB, max_buffered_bytes=3 * MIB)
    head = b"POST /echo HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer "
    large = head + TOKEN.encode() + b"\r\nContent-Length: 1048576\r\n\r\n"
    with (
        serving(
            Application(), gate=Gate(policy(CLINIC, BANK)), limits=limits, clock=lambda: 0.0
        ) as server,
        crowd(server, 6, 2, large),
        Client(server.address) as bank,
    ):
        assert server.front.buffered_bytes == MIB, "one of twelve"
        assert bank.ask("POST", "/echo", bytes(MIB), **bearer(BANK_TOKEN)).status == 200


def test_bodies_that_wait_for_room_cost_the_loop_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """457 of them, looked at in every turn, took as long as a request."""
    limits = TransportLimits(max_body_bytes=MIB, max_buffered_bytes=3 * MIB)
    large = b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 1048576\r\n\r\n"
    asked: list[str] = []
    take = Pool.take

    def counted(pool: Pool, client: str, amount: int) -> bool:
        asked.append(client)
        return take(pool, client, amount)

    with (
        serving(Application(), limits=limits, clock=lambda: 0.0) as server,
        crowd(server, 1, 30, large),
        Client(server.address) as other,
    ):
        until(lambda: len(server.front._starved) == 29)
        monkeypatch.setattr(Pool, "take", counted)
        for _ in range(50):
            assert other.ask("GET", "/echo").status == 200
        assert asked.count("address 127.0.0.2") <= 30


# --- the loop ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        (request_bytes("GET", "/v2"), 401),
        (request_bytes("GET", "/v2", Authorization="Bearer guessed"), 401),
        (request_bytes("POST", "/v2/models/m/infer", b"x" * 100), 401),
        (request_bytes("GET", "/v2/health/live", b"body"), 413),
    ],
)
def test_pipelined_refusals_end_after_some_and_others_are_served_meanwhile(
    asked: bytes, status: int
) -> None:
    application = Application()
    with (
        serving(application, gate=Gate(policy(CLINIC))) as server,
        Neighbour(server.address) as attacker,
        Client(server.address) as victim,
    ):
        thread = threading.Thread(target=_send_all, args=(attacker, asked * 500))
        thread.start()
        for _ in range(5):
            assert victim.ask("GET", "/echo", **bearer(TOKEN)).status == 200
        statuses = []
        with pytest.raises(EOFError):
            while True:
                statuses.append(attacker.response().status)
        thread.join(WATCHDOG_S)
    assert statuses == [status] * MAX_REFUSALS
    assert application.calls == ["/echo"] * 5


def _send_all(client: Client, data: bytes) -> None:
    with suppress(OSError):  # closed, as it should be
        client.send(data)


def test_a_tenant_that_asks_too_often_keeps_its_connection() -> None:
    """It is told when to come again; a handshake would cost the server more than the refusal."""
    limited, token = tenant("limited", quotas=Quotas(requests_per_s=1))
    with (
        serving(Application(), gate=Gate(policy(limited)), clock=lambda: 0.0) as server,
        Client(server.address) as client,
    ):
        statuses = [client.ask("GET", "/echo", **bearer(token)).status for _ in range(100)]
    assert statuses == [200] + [429] * 99


# --- answers -------------------------------------------------------------------------------------


def test_answers_that_one_does_not_take_are_not_another_one_s_trouble() -> None:
    limits = TransportLimits(max_body_bytes=MIB, max_buffered_bytes=64 * MIB)
    application = Application()
    with serving(application, limits=limits) as server, ExitStack() as stack:
        for number in (1, 2):
            greedy = stack.enter_context(Neighbour(server.address))
            greedy.send(request_bytes("GET", f"/down/{25 * MIB}"))
            until(lambda number=number: len(application.calls) == number)  # type: ignore[misc]
            until(lambda: server.front.requests == 0)
        with Neighbour(server.address) as greedy, Client(server.address) as other:
            assert greedy.ask("GET", "/more").status == 503
            assert other.ask("GET", "/echo").status == 200
    assert application.calls[2:] == ["/echo"]
