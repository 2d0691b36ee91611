"""The connection's states and deadlines, and the loop's limits; time is a number here."""

from __future__ import annotations

import json
import math
import socket
from collections.abc import Callable, Sequence

import pytest

from app.errors import ConfigError
from app.server.connection import Connection, Phase, Request, TransportLimits
from app.server.front import Front
from app.server.http import ApplianceServer
from app.server.room import Room
from app.server.tls import ChannelState, TlsError
from tests.unit.app.server.clients import (
    SERVER_NAME,
    Application,
    Client,
    Clock,
    identity,
    request_bytes,
    serving,
    until,
)

LIMITS = TransportLimits(
    max_body_bytes=1000,
    max_buffered_bytes=2000,
    min_body_bytes_per_s=100,
    handshake_timeout_s=5,
    head_timeout_s=10,
    body_timeout_s=10,
    response_timeout_s=30,
    keep_alive_s=75,
    linger_s=2,
)


class PlainChannel:
    """A channel whose ciphertext is the plaintext; the handshake is the word HELLO."""

    def __init__(self) -> None:
        self.state = ChannelState.HANDSHAKE
        self.incoming = b""
        self.outgoing = b""
        self.closed = False

    def feed(self, ciphertext: bytes) -> None:
        self.incoming += ciphertext

    def handshake(self) -> bool:
        if len(self.incoming) < 5:
            return False
        if not self.incoming.startswith(b"HELLO"):
            self.outgoing = b"ALERT"
            raise TlsError("no hello")
        self.incoming = self.incoming[5:]
        self.state = ChannelState.OPEN
        return True

    def read(self) -> bytes:
        plaintext, self.incoming = self.incoming, b""
        return plaintext

    def write(self, plaintext: bytes | memoryview) -> None:
        self.outgoing += plaintext

    def take_ciphertext(self) -> bytes:
        ciphertext, self.outgoing = self.outgoing, b""
        return ciphertext

    def close_notify(self) -> None:
        if not self.closed:
            self.outgoing += b"BYE"
        self.closed = True


class Bench:
    """A connection without a socket."""

    def __init__(self, limits: TransportLimits = LIMITS) -> None:
        self.room = Room(limits.max_buffered_bytes, limits.max_body_bytes)
        self.channel = PlainChannel()
        self.connection = Connection(
            self.channel, ("192.0.2.1", 7), self.room, limits, server_name=SERVER_NAME, now=0
        )

    def open(self) -> Connection:
        self.connection.receive(b"HELLO", 0)
        return self.connection

    def flush(self, now: float = 0) -> bytes:
        """Plays a socket that takes everything."""
        taken = bytearray()
        while True:
            data = self.connection.outgoing()
            if data:
                taken += data
                self.connection.sent(len(data), now)
                continue
            phase = self.connection.phase
            self.connection.flushed(now)
            if self.connection.phase is phase:
                return bytes(taken)

    def take(self) -> Request:
        request = self.connection.take_request()
        assert request is not None
        return request


def error_of(answer: bytes) -> tuple[int, str]:
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body.removesuffix(b"BYE"))["error"]


def test_a_request_passes_all_states_and_the_next_one_follows() -> None:
    bench = Bench()
    connection = bench.connection
    assert (connection.phase, connection.deadline) == (Phase.HANDSHAKE, 5)
    bench.open()
    assert (connection.phase, connection.deadline) == (Phase.IDLE, 75)
    connection.receive(b"POST / HTTP/1.1\r\n", 1)
    assert (connection.phase, connection.deadline) == (Phase.HEAD, 1 + 10)
    connection.receive(b"Host: h\r\nContent-Length: 200\r\n\r\nabc", 2)
    assert (connection.phase, connection.deadline) == (Phase.BODY, 2 + 10 + 200 / 100)
    connection.receive(bytes(197) + b"GET /next", 3)
    assert (connection.phase, connection.deadline) == (Phase.WORKING, math.inf)
    request = bench.take()
    assert request.body.read() == b"abc" + bytes(197)
    connection.answer([b"one", b"two"], True, 4)
    assert (connection.phase, connection.deadline) == (Phase.ANSWER, 4 + 30)
    assert bench.flush(5) == b"onetwo"
    assert (connection.phase, connection.deadline) == (Phase.HEAD, 5 + 10), (
        "pipelined bytes start a request"
    )


def test_a_body_is_handed_on_without_a_copy() -> None:
    bench = Bench()
    bench.open().receive(request_bytes("POST", "/", bytes(1000)), 0)
    body = bench.take().body
    assert body.read() is body.getvalue()


def test_the_head_deadline_does_not_move_with_every_byte() -> None:
    bench = Bench()
    connection = bench.open()
    for second, byte in enumerate(b"GET / HT", start=1):
        connection.receive(bytes([byte]), second)
    assert connection.deadline == 11


def until_deadline(*pieces: bytes) -> tuple[Bench, bytes]:
    bench = Bench()
    for piece in pieces:
        bench.connection.receive(piece, 0)
    bench.connection.expire(bench.connection.deadline)
    return bench, bench.flush()


def test_a_late_handshake_is_dropped_without_a_word() -> None:
    bench, said = until_deadline(b"HE")
    assert said == b""
    assert bench.connection.phase is Phase.CLOSED


def test_an_idle_connection_is_closed_in_good_order() -> None:
    bench, said = until_deadline(b"HELLO")
    assert said == b"BYE"
    assert bench.connection.phase is Phase.LINGER


@pytest.mark.parametrize(
    ("sent", "word"),
    [
        (b"GET /", "headers"),
        (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nhalf", "body"),
    ],
)
def test_a_late_request_is_told_so_and_gives_its_room_back(sent: bytes, word: str) -> None:
    bench, said = until_deadline(b"HELLO", sent)
    status, message = error_of(said)
    assert status == 408
    assert word in message
    assert said.endswith(b"BYE")
    assert bench.room.used_bytes == 0
    assert bench.connection.take_request() is None


def test_an_answer_has_to_be_taken_steadily_and_within_its_size() -> None:
    bench = Bench()
    connection = bench.open()
    connection.receive(request_bytes("GET", "/"), 0)
    bench.take()
    connection.answer([bytes(200_000)], True, 100)
    assert connection.deadline == 130
    connection.sent(len(connection.outgoing()), 120)
    assert connection.deadline == 150
    connection.sent(1, 100 + 30 + 2000 - 1)
    assert connection.deadline == 100 + 30 + 200_000 / 100, "one byte at a time doesn't help"
    connection.expire(connection.deadline)
    assert connection.phase is Phase.CLOSED


def test_a_client_that_leaves_makes_its_request_abandoned() -> None:
    bench = Bench()
    connection = bench.open()
    connection.receive(request_bytes("POST", "/", b"body"), 0)
    request = bench.take()
    connection.receive(b"", 1)
    assert request.abandoned
    connection.answer([b"nobody reads this"], True, 2)
    assert bench.flush() == b""


def test_a_failed_handshake_may_send_its_alert_and_nothing_else() -> None:
    bench = Bench()
    bench.connection.receive(b"GET / HTTP/1.1", 0)
    assert bench.connection.phase is Phase.CLOSED
    assert bench.flush() == b"ALERT"
    bench.connection.receive(b"HELLO", 0)
    assert bench.connection.phase is Phase.CLOSED


def test_exactly_one_100_continue_is_sent_and_only_once_there_is_room() -> None:
    bench = Bench()
    other = bench.room
    blocker = Connection(
        PlainChannel(), ("192.0.2.2", 7), other, LIMITS, server_name=SERVER_NAME, now=0
    )
    second = Connection(
        PlainChannel(), ("192.0.2.3", 7), other, LIMITS, server_name=SERVER_NAME, now=0
    )
    head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n"
    for connection in (blocker, second):
        connection.receive(b"HELLO" + head, 0)
    waiting = bench.open()
    waiting.receive(head, 0)
    assert waiting.starved
    assert not waiting.wants_read
    assert bench.flush() == b""
    waiting.resume(1)
    assert bench.flush() == b""
    blocker.drop()
    waiting.resume(2)
    assert waiting.wants_read
    assert bench.flush() == b"HTTP/1.1 100 Continue\r\n\r\n"
    waiting.receive(b"x", 3)
    waiting.receive(bytes(999), 4)
    assert bench.flush() == b""
    assert b"Expect" not in bench.take().head.wire


def test_a_body_that_never_gets_room_is_told_that_the_server_is_busy() -> None:
    bench = Bench()
    bench.room.used_bytes = LIMITS.max_buffered_bytes
    bench.open().receive(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n", 0)
    bench.connection.expire(bench.connection.deadline)
    assert error_of(bench.flush())[0] == 503


def test_a_finished_request_that_is_never_taken_gives_its_room_back() -> None:
    bench = Bench()
    connection = bench.open()
    connection.receive(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n", 0)
    connection.receive(bytes(9), 0)
    assert bench.room.used_bytes == 9
    connection.drop()
    assert bench.room.used_bytes == 0


# --- the loop, on loopback -----------------------------------------------------------------------


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
            clock.advance(6)
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
        clock.advance(10 + 100_000 / 65536 + 1)
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
    with serving(Application(), limits=limits) as server:
        clients = silent(server, 20)
        with Client(server.address) as honest:
            assert honest.ask("GET", "/echo").status == 200
        for client in clients[:16]:
            assert ended(client)
        for client in clients:
            client.close()


def test_a_used_address_is_a_configuration_error() -> None:
    with serving(Application()) as server:
        twin = ApplianceServer(Application(), identity(), server.address, 1, SERVER_NAME)
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
        return made[-1]

    with running(new_channel) as (front, address):
        with socket.create_connection(address, timeout=20) as first:
            first.sendall(b"HELLO")
            assert ended(first)
        with socket.create_connection(address, timeout=20) as second:
            second.sendall(b"HELLO" + request_bytes("GET", "/"))
            assert second.recv(100) == b"answer"
        until(lambda: front.connections == 0)


class running:  # noqa: N801 - reads as a phrase after "with"
    """A front on its own thread that answers every request at once."""

    def __init__(self, new_channel: Callable[[], PlainChannel]) -> None:
        self.front = Front(
            new_channel=new_channel,
            submit=lambda request: self.front.deliver(request, [b"answer"], True),
            max_requests=1,
            server_name=SERVER_NAME,
            limits=TransportLimits(),
        )

    def __enter__(self) -> tuple[Front, tuple[str, int]]:
        import threading

        address = self.front.listen(("127.0.0.1", 0))
        self.thread = threading.Thread(target=self.front.run)
        self.thread.start()
        return self.front, address

    def __exit__(self, *_: object) -> None:
        self.front.stop()
        self.thread.join(20)
        assert not self.thread.is_alive()


def test_chunks_are_sent_in_their_order() -> None:
    bench = Bench()
    connection = bench.open()
    connection.receive(request_bytes("GET", "/"), 0)
    bench.take()
    chunks: Sequence[bytes] = [bytes([number]) * 70_000 for number in range(5)]
    connection.answer(chunks, False, 0)
    assert bench.flush() == b"".join(chunks) + b"BYE"
