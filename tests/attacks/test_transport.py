"""Wrong protocols, strange cuts, large bodies and the end: only what is served gets in."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import random
import socket
import ssl
import subprocess
import threading
from pathlib import Path

import pytest

from app.limits import MIB
from app.server.server import ApplianceServer
from app.server.transport import TransportLimits
from tests.unit.app.server.clients import (
    WATCHDOG_S,
    Application,
    Client,
    Clock,
    assert_serves,
    client_hello,
    curl,
    identity,
    old_context,
    pattern,
    request_bytes,
    serving,
    tcp,
    until,
)

pytestmark = pytest.mark.usefixtures("tls_library")


def ended(client: socket.socket) -> bool:
    """Whether the server closes without a byte of an HTTP answer."""
    received = b""
    try:
        while piece := client.recv(4096):
            received += piece
    except ConnectionError:
        pass
    return b"HTTP" not in received


# --- wrong protocols -----------------------------------------------------------------------------


def test_curl_verifies_the_certificate_and_refuses_another(
    server: ApplianceServer, tmp_path: Path
) -> None:
    port = server.address[1]
    for host in ("localhost", "127.0.0.1"):
        answer = curl(tmp_path, f"https://{host}:{port}/echo")
        assert answer.returncode == 0
        assert json.loads(answer.stdout)["path"] == "/echo"
    strange = curl(
        tmp_path, "--resolve", f"other.test:{port}:127.0.0.1", f"https://other.test:{port}/"
    )
    assert strange.returncode == 60
    (tmp_path / "none.pem").write_text("")
    unknown = subprocess.run(
        ["curl", "--silent", f"https://localhost:{port}/"], capture_output=True, check=False
    )
    assert unknown.returncode == 60


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_old_tls_is_dropped(server: ApplianceServer, version: ssl.TLSVersion) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError)):
        Client(server.address, old_context(version))
    assert_serves(server)


@pytest.mark.parametrize(
    "garbage",
    [
        b"BREW / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x40\x00" + b"\x41" * 20_000,
        b"\x80\x2e\x01\x00\x02" + bytes(60),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        random.Random(1).randbytes(100_000),
        b"\x15\x03\x03\x00\x02\x02\x28",
        b"\x17\x03\x03\x00\x10" + bytes(16),
    ],
)
def test_what_is_no_handshake_is_dropped_quietly(
    server: ApplianceServer,
    application: Application,
    garbage: bytes,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    for _ in range(5):
        with tcp(server) as client:
            try:
                client.sendall(garbage)
            except ConnectionError:
                continue
            assert ended(client)
    until(lambda: server.front.connections == 0)
    assert_serves(server)
    assert application.calls == ["/echo"]
    assert caplog.text == ""


def test_curl_without_tls_is_told_what_to_do(
    server: ApplianceServer, application: Application, tmp_path: Path
) -> None:
    port = server.address[1]
    large = tmp_path / "large"
    large.write_bytes(bytes(300_000))
    for body in ((), ("--data", "secret"), ("--data-binary", f"@{large}")):
        told = curl(tmp_path, "--include", *body, f"http://localhost:{port}/echo")
        head, _, said = told.stdout.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert said == b'{"error":"this port speaks TLS; use https://"}\n'
    assert server.front.counters.handshake_failures == 3
    assert server.front.requests == 0
    assert_serves(server)
    assert application.calls == ["/echo"], "nothing of it was a request"


def test_http_without_tls_takes_no_more_places_than_silence() -> None:
    """Those who are being told what to do push out one another, as silent handshakes do."""
    limits = TransportLimits(max_handshakes=4)
    with serving(Application(), limits=limits, clock=lambda: 0.0) as server:  # no deadline passes
        clients = [tcp(server) for _ in range(20)]
        for client in clients:
            client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        until(lambda: server.front.counters.handshake_failures >= 20)
        assert server.front.connections <= 4
        assert_serves(server)
        for client in clients:
            client.close()


# --- strange cuts --------------------------------------------------------------------------------


def test_a_request_in_one_byte_records(server: ApplianceServer) -> None:
    with Client(server.address) as client:
        for byte in request_bytes("POST", "/echo", b"slowly"):
            client.send(bytes([byte]))
        assert client.response().json()["bytes"] == 6


def test_a_body_of_3000_one_byte_records(server: ApplianceServer) -> None:
    body = pattern(3000)
    with Client(server.address) as client:
        client.send(request_bytes("POST", "/echo", body)[: -len(body)])
        for byte in body:
            client.send(bytes([byte]))
        assert client.response().json()["sha256"] == hashlib.sha256(body).hexdigest()


def test_ciphertext_in_one_byte_segments(server: ApplianceServer) -> None:
    with relay(server.address) as address, Client(address) as client:
        assert client.ask("POST", "/echo", pattern(3000)).json()["bytes"] == 3000


class relay:  # noqa: N801 - reads as a phrase after "with"
    """Passes one connection on, the client's bytes one by one."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.target = target
        self.threads: list[threading.Thread] = []

    def __enter__(self) -> tuple[str, int]:
        self._run(self._serve)
        host, port = self.listener.getsockname()
        return host, port

    def __exit__(self, *_: object) -> None:
        self.listener.close()
        for thread in self.threads:
            thread.join(WATCHDOG_S)
            assert not thread.is_alive()

    def _run(self, target: object, *args: object) -> None:
        thread = threading.Thread(target=target, args=args)  # type: ignore[arg-type]
        self.threads.append(thread)
        thread.start()

    def _serve(self) -> None:
        client, _ = self.listener.accept()
        with client, socket.create_connection(self.target) as server:
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            back = threading.Thread(target=self._copy, args=(server, client))
            back.start()
            while data := client.recv(65536):
                for byte in data:
                    server.send(bytes([byte]))
            server.shutdown(socket.SHUT_WR)
            back.join(WATCHDOG_S)

    @staticmethod
    def _copy(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            return


def test_a_bad_request_behind_a_good_one_is_answered_at_once(server: ApplianceServer) -> None:
    with Client(server.address) as client:
        client.send(request_bytes("GET", "/echo") + b"bad\r\n\r\n")
        assert client.response().status == 200
        assert client.response().status == 400
        assert client.is_closed()


# --- large bodies --------------------------------------------------------------------------------


def test_large_uploads_and_downloads_arrive_intact(server: ApplianceServer, tmp_path: Path) -> None:
    body = os.urandom(20 * MIB)
    source = tmp_path / "body"
    source.write_bytes(body)
    base = f"https://localhost:{server.address[1]}"
    answer = curl(tmp_path, "--data-binary", f"@{source}", f"{base}/echo")
    assert json.loads(answer.stdout)["sha256"] == hashlib.sha256(body).hexdigest()
    down = curl(tmp_path, f"{base}/down/{50 * MIB}")
    assert hashlib.sha256(down.stdout).digest() == hashlib.sha256(pattern(50 * MIB)).digest()
    until(lambda: server.front.buffered_bytes == 0)


def test_the_largest_bodies_from_several_clients_share_the_room(application: Application) -> None:
    limits = TransportLimits(max_body_bytes=4 * MIB, max_buffered_bytes=8 * MIB)
    results: list[int] = []

    def upload(address: tuple[str, int]) -> None:
        with Client(address) as client:
            results.append(client.ask("POST", "/echo", bytes(4 * MIB)).json()["bytes"])

    with serving(application, limits=limits) as server:
        threads = [threading.Thread(target=upload, args=(server.address,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        highest = 0
        while any(thread.is_alive() for thread in threads):
            highest = max(highest, server.front.buffered_bytes)
            threads[0].join(0.002)
    assert results == [4 * MIB] * 8
    assert 0 < highest <= 8 * MIB


# --- the end -------------------------------------------------------------------------------------


def test_stop_drops_every_kind_of_stalled_client(application: Application) -> None:
    with serving(application) as server:
        clients = [tcp(server), tcp(server)]
        clients[1].sendall(client_hello()[:50])
        talkers = [Client(server.address) for _ in range(3)]
        talkers[1].send(b"GET /")
        talkers[2].send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nx")
        until(lambda: server.front.connections == 5)
        server.stop()
        assert all(talker.is_closed() for talker in talkers)
        assert all(ended(client) for client in clients)
        for client in clients:
            client.close()
        for talker in talkers:
            talker.close()
    assert application.calls == []


def test_a_stuck_worker_does_not_keep_the_server_from_stopping(application: Application) -> None:
    clock = Clock()
    with serving(application, clock=clock) as server, Client(server.address) as client:
        client.send(request_bytes("GET", "/wait"))
        assert application.entered.acquire(timeout=WATCHDOG_S)
        stopper = threading.Thread(target=server.stop)
        stopper.start()
        until(lambda: server.front.stopping)
        threading.Event().wait(0.3)
        assert stopper.is_alive(), "the request gets its time"
        clock.advance(11)
        stopper.join(WATCHDOG_S)
        assert not stopper.is_alive()
        assert client.is_closed()
        application.release.set()


def test_the_private_key_is_never_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with serving(Application()) as server:
        assert_serves(server)
    assert identity().private_key_pem.decode().splitlines()[1] not in caplog.text
