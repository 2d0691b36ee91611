"""The event loop on loopback: its limits, its deadlines, and what it survives."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

import pytest

from app.errors import ConfigError
from app.limits import HANDSHAKE_TIMEOUT_S
from app.server.front import Front
from app.server.request import Request
from app.server.server import ApplianceServer
from app.server.transport import READ_BYTES, TransportLimits
from app.serving.accounts import Accounts
from tests.unit.app.server.clients import (
    OPEN,
    SERVER_NAME,
    Application,
    Client,
    Clock,
    PlainChannel,
    endpoint,
    request_bytes,
    serving,
    until,
)


def silent(server: ApplianceServer, count: int = 1) -> list[socket.socket]:
    return [socket.create_connection(server.address, timeout=20) for _ in range(count)]


def ended(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except ConnectionError:
        return True


@pytest.mark.parametrize("sent", [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01\x00"])
def test_a_stalled_handshake_ends_at_its_deadline(sent: bytes) -> None:
    clock = Clock()
    with serving(Application(), clock=clock) as server:
        (client,) = silent(server)
        with client:
            client.sendall(sent)
            until(lambda: server.front.connections == 1)
            clock.advance(HANDSHAKE_TIMEOUT_S + 1)
            assert ended(client)
        until(lambda: server.front.connections == 0)


def test_an_idle_connection_ends_with_close_notify() -> None:
    clock = Clock()
    with serving(Application(), clock=clock) as server, Client(server.address) as client:
        client.ask("GET", "/echo")
        clock.advance(76)
        assert client.is_closed()  # ssl raises for an end without close_notify
        client.close()
        until(lambda: server.front.connections == 0)


def test_half_a_body_is_refused_at_its_deadline_and_costs_no_worker() -> None:
    clock = Clock()
    application = Application()
    with serving(application, workers=1, clock=clock) as server, Client(server.address) as half:
        half.send(b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n" + bytes(5000))
        until(lambda: server.front.buffered_bytes > 0)
        with Client(server.address) as other:
            assert other.ask("GET", "/echo").status == 200
        clock.advance(10 + 5000 / 65536 + 1)
        assert half.response().status == 408
        assert half.is_closed()
        until(lambda: server.front.buffered_bytes == 0)
    assert application.calls == ["/echo"]


def test_a_full_queue_answers_503_and_serves_on() -> None:
    application = Application()
    limits = TransportLimits(max_queued_requests=1)
    with serving(application, workers=1, limits=limits) as server:
        clients = [Client(server.address) for _ in range(3)]
        clients[0].send(request_bytes("GET", "/wait"))
        assert application.entered.acquire(timeout=20)
        clients[1].send(request_bytes("GET", "/echo"))
        until(lambda: server.front.requests == 2)
        refused = clients[2].ask("POST", "/echo", b"body")
        assert refused.status == 503
        assert refused.headers["retry-after"] == "1"
        assert "busy" in refused.json()["error"]
        assert clients[2].ask("HEAD", "/echo").status == 503
        application.release.set()
        assert clients[0].response().status == 200
        assert clients[1].response().status == 200
        assert clients[2].ask("GET", "/echo").status == 200, "the refusal kept it open"
        for client in clients:
            client.close()


def test_an_address_gets_no_more_connections_than_its_share() -> None:
    limits = TransportLimits(max_connections_per_address=2)
    with serving(Application(), limits=limits) as server:
        with Client(server.address) as first, Client(server.address) as second:
            (third,) = silent(server)
            with third:
                assert ended(third)
            assert first.ask("GET", "/echo").status == 200
            assert second.ask("GET", "/echo").status == 200
        until(lambda: server.front.connections == 0)
        with Client(server.address) as again:
            assert again.ask("GET", "/echo").status == 200


def test_a_full_house_closes_the_longest_idle_connection_for_a_new_one() -> None:
    limits = TransportLimits(max_connections=2)
    application = Application()
    with serving(application, limits=limits) as server:
        first = Client(server.address)
        first.send(request_bytes("GET", "/wait"))
        assert application.entered.acquire(timeout=20)
        idle = Client(server.address)
        idle.ask("GET", "/echo")
        new = Client(server.address)
        assert new.ask("GET", "/echo").status == 200
        assert idle.is_closed()
        application.release.set()
        assert first.response().status == 200, "a connection at work is never pushed out"
        for client in (first, idle, new):
            client.close()


def test_silent_handshakes_push_out_one_another() -> None:
    limits = TransportLimits(max_handshakes=4)
    with serving(Application(), limits=limits, clock=lambda: 0.0) as server:  # no deadline passes
        clients = silent(server, 20)
        with Client(server.address) as honest:
            assert honest.ask("GET", "/echo").status == 200
        for client in clients[:16]:
            assert ended(client)
        for client in clients:
            client.close()


def test_a_used_address_is_a_configuration_error() -> None:
    with serving(Application()) as server:
        twin = ApplianceServer(Application(), endpoint(), server.address, 1, SERVER_NAME, gate=OPEN)
        with pytest.raises(ConfigError, match=f"{server.address[1]}"):
            twin.bind()
        twin.close()


def test_a_failing_channel_ends_one_connection_and_not_the_loop() -> None:
    made: list[PlainChannel] = []

    class Broken(PlainChannel):
        def handshake(self) -> bool:
            raise ArithmeticError("a defect")

    def new_channel() -> PlainChannel:
        made.append(Broken() if not made else PlainChannel())
        if len(made) == 2:
            raise MemoryError
        return made[-1]

    with running(new_channel) as (front, address):
        with socket.create_connection(address, timeout=20) as first:
            first.sendall(b"HELLO")
            assert ended(first)
        with socket.create_connection(address, timeout=20) as unlucky:
            assert ended(unlucky)
        with socket.create_connection(address, timeout=20) as second:
            second.sendall(b"HELLO" + request_bytes("GET", "/"))
            assert second.recv(100) == b"answer"
        until(lambda: front.connections == 0)


def test_a_handshake_that_has_nothing_to_read_after_all_is_heard_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A socket may be reported ready and not be: select(2), "BUGS"."""
    read, wrong_reports = socket.socket.recv, [1]

    def recv(self: socket.socket, size: int, flags: int = 0) -> bytes:
        if size == READ_BYTES and wrong_reports:
            wrong_reports.pop()
            raise BlockingIOError
        return read(self, size, flags)

    monkeypatch.setattr(socket.socket, "recv", recv)
    with running(PlainChannel) as (front, address):
        with socket.create_connection(address, timeout=20) as client:
            client.sendall(b"HELLO" + request_bytes("GET", "/"))
            assert client.recv(100) == b"answer"
        until(lambda: front.connections == 0)
    assert not wrong_reports


class running:  # noqa: N801 - reads as a phrase after "with"
    """A front on its own thread that answers every request at once."""

    def __init__(self, new_channel: Callable[[], PlainChannel]) -> None:
        self.front = Front(
            new_channel=new_channel,
            submit=self._answer,
            gate=OPEN,
            accounts=Accounts(),
            server_name=SERVER_NAME,
            limits=TransportLimits(),
        )

    def _answer(self, request: Request) -> bool:
        self.front.deliver(request, [b"answer"], True)
        return True

    def __enter__(self) -> tuple[Front, tuple[str, int]]:
        address = self.front.listen(("127.0.0.1", 0))
        self.thread = threading.Thread(target=self.front.run)
        self.thread.start()
        return self.front, address

    def __exit__(self, *_: object) -> None:
        self.front.stop()
        self.thread.join(20)
        assert not self.thread.is_alive()
