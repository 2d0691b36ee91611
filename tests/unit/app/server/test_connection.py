"""The connection's states and deadlines; time is a number here and the wire a byte string."""

from __future__ import annotations

import json
import math

import pytest

from app.access.admission import OPEN_PATHS, Gate
from app.limits import MAX_REFUSALS
from app.server.connection import HEALTH, Connection, Phase
from app.server.request import Request, address_client
from app.server.transport import STEP_BYTES, TransportLimits
from app.serving.pool import Pool
from tests.unit.app.server.clients import OPEN, SERVER_NAME, PlainChannel, request_bytes

LIMITS = TransportLimits(
    max_body_bytes=1000,
    max_buffered_bytes=2000,
    min_body_bytes_per_s=100,
    handshake_timeout_s=5,
    head_timeout_s=10,
    body_timeout_s=10,
    room_timeout_s=30,
    response_timeout_s=30,
    keep_alive_s=75,
    linger_s=2,
)


class Bench:
    """A connection without a socket."""

    def __init__(self, limits: TransportLimits = LIMITS, gate: Gate = OPEN) -> None:
        self.room = Pool(limits.max_buffered_bytes)
        self.channel = PlainChannel()
        self.connection = Connection(
            self.channel,
            ("192.0.2.1", 7),
            self.room,
            limits,
            gate=gate,
            server_name=SERVER_NAME,
            now=0,
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
            if not self.connection.flushed(now):
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
    assert (connection.phase, connection.deadline) == (Phase.BODY, 2 + 10 + 3 / 100)
    connection.receive(bytes(197) + b"GET /next", 3)
    assert (connection.phase, connection.deadline) == (Phase.WORKING, math.inf)
    request = bench.take()
    assert request.body.read() == b"abc" + bytes(197)
    connection.answer([b"one", b"two"], True, 4)
    assert (connection.phase, connection.deadline) == (Phase.ANSWER, 4 + 30)
    assert bench.flush(5) == b"onetwo"
    assert (connection.phase, connection.has_pipelined) == (Phase.IDLE, True)
    connection.advance(5)
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
    assert bench.room.used == 0
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
    bench.connection.receive(b"SSH-2.0-OpenSSH_9.6", 0)
    assert bench.connection.phase is Phase.CLOSED
    assert bench.flush() == b"ALERT"
    bench.connection.receive(b"HELLO", 0)
    assert bench.connection.phase is Phase.CLOSED


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "OPTIONS", "CONNECT"])
def test_http_without_tls_is_told_so_in_clear_text(method: str) -> None:
    bench = Bench()
    connection = bench.connection
    plain = request_bytes(method, "/v2/models/m/infer", b"secret")
    connection.receive(plain, 1)
    assert (connection.phase, connection.deadline) == (Phase.CLOSING, 1 + 2)
    answer = bench.flush()
    assert error_of(answer) == (400, "this port speaks TLS; use https://")
    assert b"\r\nConnection: close\r\n" in answer
    assert b"secret" not in answer
    connection.receive(plain + b"HELLO" + plain, 1)
    assert (connection.phase, connection.deadline) == (Phase.LINGER, 2)
    assert (bench.channel.incoming, bench.flush()) == (b"", b""), "nothing reached TLS, one answer"
    assert connection.take_request() is None
    connection.expire(3)
    assert connection.phase is Phase.CLOSED


def test_exactly_one_100_continue_is_sent_and_only_once_there_is_room() -> None:
    bench = Bench()
    other = bench.room
    blocker = Connection(
        PlainChannel(), ("192.0.2.1", 8), other, LIMITS, gate=OPEN, server_name=SERVER_NAME, now=0
    )
    head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n"
    blocker.receive(b"HELLO" + head, 0)
    waiting = bench.open()
    waiting.receive(head, 0)
    assert waiting.starved
    assert not waiting.wants_read
    assert bench.flush() == b""
    waiting.advance(1)
    assert bench.flush() == b""
    blocker.drop()
    waiting.advance(2)
    assert waiting.wants_read
    assert bench.flush() == b"HTTP/1.1 100 Continue\r\n\r\n"
    bench.channel.holds_back = True
    waiting.receive(b"x", 3)
    assert bench.flush() == b"", "a part of a record isn't a reason for another one"
    bench.channel.holds_back = False
    waiting.receive(bytes(999), 4)
    assert bench.flush() == b""
    assert b"expect" not in dict(bench.take().head.headers)


def test_pipelined_bytes_are_bounded_while_a_request_is_at_work() -> None:
    bench = Bench()
    connection = bench.open()
    connection.receive(request_bytes("GET", "/"), 0)
    bench.take()
    assert connection.wants_read, "so that leaving is noticed"
    connection.receive(bytes(LIMITS.max_head_bytes), 1)
    assert not connection.wants_read
    connection.answer([b"done"], True, 2)
    assert bench.flush() == b"done"
    connection.advance(2)
    assert error_of(bench.flush())[0] == 431


def test_a_body_that_never_gets_room_is_told_that_the_server_is_busy() -> None:
    bench = Bench()
    bench.room.add("another", LIMITS.max_buffered_bytes)
    bench.open().receive(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n", 0)
    bench.connection.expire(bench.connection.deadline)
    assert error_of(bench.flush())[0] == 503


def test_a_body_that_stays_behind_the_least_rate_ends_and_one_that_keeps_it_goes_on() -> None:
    bench = Bench()
    connection = bench.open()
    connection.receive(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n", 0)
    assert connection.deadline == 10, "nothing has come: no more than the grace"
    connection.receive(bytes(500), 9)
    assert connection.deadline == 10 + 500 / 100
    for second in range(10, 15):
        connection.receive(b"x", second)
    assert connection.deadline == 10 + 505 / 100, "a byte buys a byte's time"


def test_the_time_for_a_body_begins_when_it_has_room() -> None:
    bench = Bench()
    bench.room.add("another", LIMITS.max_buffered_bytes)
    connection = bench.open()
    connection.receive(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n", 0)
    assert (connection.starved, connection.deadline) == (True, 30)
    bench.room.give_back("another", LIMITS.max_buffered_bytes)
    connection.advance(8)
    assert (connection.starved, connection.deadline) == (False, 18)


@pytest.mark.parametrize(
    "head",
    [
        b"POST /v2/health/live HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n",
        b"PUT /v2/health/ready HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n",
        b"GET /v2 HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n",
        b"HEAD /page/icon.svg HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n",
    ],
)
def test_strangers_and_methods_without_a_body_get_no_room_for_one(head: bytes) -> None:
    bench = Bench()
    bench.open().receive(head, 0)
    assert bench.room.used == 0
    assert bench.connection.take_request() is None
    assert b" 413 " in bench.flush()


@pytest.mark.parametrize("path", sorted(HEALTH))
@pytest.mark.parametrize("query", [b"", b"?now"])
def test_health_is_answered_without_a_worker_and_as_background_work(
    path: bytes, query: bytes
) -> None:
    """Strangers may ask as often as they like, and a probe waits behind nobody's requests."""
    assert HEALTH.keys() == OPEN_PATHS
    bench = Bench(gate=Gate(None))
    connection = bench.open()
    target = (path + query).decode()
    for method in ("GET", "HEAD", "GET"):
        connection.receive(request_bytes(method, target), 0)
        assert connection.take_request() is None
        assert connection.is_background
        head, _, body = bench.flush().partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert body == (HEALTH[path] if method == "GET" else b"")
    assert connection.refusals == 0
    connection.receive(request_bytes("DELETE", target), 0)
    answer = bench.flush()
    assert error_of(answer)[0] == 405
    assert b"\r\nAllow: GET, HEAD\r\n" in answer


def test_a_connection_whose_requests_are_all_refused_is_closed() -> None:
    bench = Bench(gate=Gate(None))
    connection = bench.open()
    refused = request_bytes("GET", "/v2")
    connection.receive(refused * (2 * MAX_REFUSALS), 0)
    answers = 0
    while connection.phase is not Phase.LINGER:
        answers += bench.flush().count(b"HTTP/1.1 403")
        connection.advance(0)
    assert answers == MAX_REFUSALS


def test_one_request_is_refused_at_a_time() -> None:
    """So that what a client has pipelined takes a turn of the loop for each."""
    bench = Bench(gate=Gate(None))
    bench.open().receive(request_bytes("GET", "/v2") * 5, 0)
    assert bench.flush().count(b"HTTP/1.1 403") == 1
    assert bench.connection.is_background


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
    ],
)
def test_an_ipv6_customer_is_one_client_whatever_addresses_it_takes(
    one: str, other: str, is_same: bool
) -> None:
    assert (address_client(one) == address_client(other)) == is_same


def test_a_finished_request_that_is_never_taken_gives_its_room_back() -> None:
    bench = Bench()
    connection = bench.open()
    connection.receive(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n", 0)
    connection.receive(bytes(9), 0)
    assert bench.room.used == 9
    connection.drop()
    assert bench.room.used == 0


def test_chunks_are_sent_in_their_order() -> None:
    bench = Bench()
    connection = bench.open()
    connection.receive(request_bytes("GET", "/"), 0)
    bench.take()
    chunks = [bytes([number]) * 70_000 for number in range(5)]
    connection.answer(chunks, False, 0)
    assert bench.flush() == b"".join(chunks) + b"BYE"


def test_a_body_is_background_work_while_more_than_a_step_of_it_is_missing() -> None:
    size = 3 * STEP_BYTES
    limits = TransportLimits(max_body_bytes=size, max_buffered_bytes=2 * size)
    bench = Bench(limits)
    connection = bench.open()
    assert not connection.is_background
    connection.receive(b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % size, 0)
    seen = []
    for _ in range(3):
        seen.append(connection.is_background)
        connection.receive(bytes(STEP_BYTES), 0)
    assert seen == [True, True, False]
    assert connection.phase is Phase.WORKING
    assert not connection.is_background
