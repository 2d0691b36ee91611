"""Clients that are silent, slow or gone: each is dropped, and nobody else notices."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from app.limits import MAX_HANDSHAKES, MIB
from app.server.server import ApplianceServer
from app.server.transport import TransportLimits
from tests.attacks.conftest import WORKERS
from tests.unit.app.server.clients import (
    WATCHDOG_S,
    Application,
    Client,
    Clock,
    Neighbour,
    assert_serves,
    client_context,
    client_hello,
    curl,
    request_bytes,
    serving,
    tcp,
    until,
)

pytestmark = pytest.mark.usefixtures("tls_library")

MANY = MAX_HANDSHAKES + 32

# --- silence and slowness ------------------------------------------------------------------------


def test_more_silent_clients_than_workers_and_handshakes_delay_nobody(
    server: ApplianceServer,
) -> None:
    with ExitStack() as stack:
        for _ in range(MANY):
            stack.enter_context(tcp(server))
        assert_serves(server)


def test_a_burst_of_honest_clients_pushes_nobody_out(application: Application) -> None:
    """All connect before the first one says a word."""
    context = client_context()
    with serving(application, clock=lambda: 0.0) as server, ExitStack() as stack:
        waiting = [stack.enter_context(tcp(server)) for _ in range(100)]
        until(lambda: server.front.connections == len(waiting))
        for raw in waiting:
            client = stack.enter_context(context.wrap_socket(raw, server_hostname="localhost"))
            client.sendall(request_bytes("GET", "/echo"))
            assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
    assert len(application.calls) == len(waiting)


def test_half_a_handshake_from_many_delays_nobody(server: ApplianceServer) -> None:
    hello = client_hello()
    with ExitStack() as stack:
        for number in range(MANY):
            client = stack.enter_context(tcp(server))
            client.sendall(hello[: 1 + number * len(hello) // MANY])
        assert_serves(server)


def test_half_requests_from_many_delay_nobody(
    server: ApplianceServer, application: Application
) -> None:
    half = (b"GET /ec", b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nhalf")
    with ExitStack() as stack:
        for number in range(4 * WORKERS):
            client = stack.enter_context(Client(server.address))
            client.send(half[number % 2])
        assert_serves(server)
    assert application.calls == ["/echo"]


def test_slow_uploads_of_large_bodies_delay_nobody(server: ApplianceServer) -> None:
    with ExitStack() as stack:
        for _ in range(40):
            client = stack.enter_context(Neighbour(server.address))
            client.send(
                f"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: {32 * MIB}\r\n\r\n".encode()
                + bytes(1000)
            )
        until(lambda: server.front.buffered_bytes > 0)
        assert_serves(server)
        with Client(server.address) as large:
            assert large.ask("POST", "/echo", bytes(32 * MIB)).json()["bytes"] == 32 * MIB
    until(lambda: server.front.buffered_bytes == 0)


def test_clients_that_do_not_take_their_answers_delay_nobody(
    server: ApplianceServer, application: Application
) -> None:
    with ExitStack() as stack:
        for _ in range(3):
            client = stack.enter_context(Neighbour(server.address))
            client.send(request_bytes("GET", f"/down/{20 * MIB}"))
        until(lambda: len(application.calls) == 3 and server.front.requests == 0)
        assert_serves(server)


def test_answers_that_nobody_takes_are_bounded(application: Application) -> None:
    limits = TransportLimits(
        max_body_bytes=MIB, max_buffered_bytes=16 * MIB, keep_alive_s=1_000_000
    )
    clock = Clock()

    def is_dropped(server: ApplianceServer) -> bool:
        clock.advance(31)  # longer than an answer may stall
        return server.front.connections == 2

    with serving(application, limits=limits, clock=clock) as server, ExitStack() as stack:
        greedy = stack.enter_context(Neighbour(server.address))
        greedy.send(request_bytes("GET", f"/down/{40 * MIB}"))
        until(lambda: application.calls != [] and server.front.requests == 0)
        with Client(server.address) as other, Neighbour(server.address) as again:
            assert again.ask("GET", "/echo").status == 503, "who doesn't take gets no more"
            assert other.ask("GET", "/echo").status == 200
            until(lambda: is_dropped(server))
            assert again.ask("GET", "/echo").status == 200


def test_a_body_above_the_limit_is_refused_before_it_is_read(
    server: ApplianceServer, application: Application, tmp_path: Path
) -> None:
    with Client(server.address) as client:
        client.send(b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000000\r\n\r\n")
        assert client.response().status == 413
        assert server.front.buffered_bytes == 0
    with Client(server.address) as pushy:
        pushy.send(
            b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000000\r\n\r\n" + bytes(2 * MIB)
        )
        assert pushy.response().status == 413, "an answer isn't lost to a reset"
    big = tmp_path / "big"
    with big.open("wb") as file:
        file.truncate(1_000_000_000)
    answer = curl(
        tmp_path,
        *("--upload-file", str(big), "--request", "POST", "--write-out", "%{http_code}"),
        f"https://localhost:{server.address[1]}/echo",
    )
    assert answer.stdout.endswith(b"413")
    assert b"error" in answer.stdout
    assert application.calls == []


# --- leaving -------------------------------------------------------------------------------------


def test_resets_in_the_middle_of_uploads_and_downloads(server: ApplianceServer) -> None:
    for _ in range(20):
        up = Client(server.address)
        up.send(b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 9000000\r\n\r\n" + bytes(MIB))
        up.reset()
        down = Client(server.address)
        down.send(request_bytes("GET", f"/down/{5 * MIB}"))
        down.socket.recv(1000)
        down.reset()
    until(lambda: server.front.connections == 0 and server.front.requests == 0)
    assert server.front.buffered_bytes == 0
    assert_serves(server)


@pytest.mark.parametrize("how", ["close", "reset"])
def test_leaving_during_inference_frees_the_worker(
    server: ApplianceServer, application: Application, how: str
) -> None:
    for _ in range(WORKERS):
        client = Client(server.address)
        client.send(request_bytes("POST", "/wait", bytes(100_000)))
        assert application.entered.acquire(timeout=WATCHDOG_S)
        getattr(client, how)()
    until(lambda: server.front.connections == 0)
    assert application.saw_client_gone.wait(WATCHDOG_S)
    assert_serves(server)
    until(lambda: server.front.requests == 0)
    assert server.front.buffered_bytes == 0


def test_peers_that_close_at_once_cost_no_computing(server: ApplianceServer) -> None:
    hello = client_hello()
    for cut in (0, 1, 5, len(hello) // 2, len(hello)):
        with tcp(server) as client:
            client.sendall(hello[:cut])
    until(lambda: server.front.connections == 0)
    assert_serves(server)
    until(lambda: server.front.connections == 0)
    # A spinning loop would take the whole interval; a sleeping one takes next to nothing.
    start_cpu, start = time.process_time(), time.monotonic()
    threading.Event().wait(0.5)
    share = (time.process_time() - start_cpu) / (time.monotonic() - start)
    assert share < 0.5


def test_half_closed_handshakes_do_not_spin_either(server: ApplianceServer) -> None:
    with tcp(server) as client:
        client.sendall(client_hello())
        client.shutdown(socket.SHUT_WR)
        until(lambda: server.front.connections == 0)
