"""HTTP through the whole server: what the application sees and what the client gets."""

from __future__ import annotations

import gc
import logging
import os
import signal
import threading
import weakref
from collections.abc import Iterable
from io import BytesIO
from typing import Any

import pytest

from app.errors import ConfigError
from app.server.server import ApplianceServer
from app.server.wsgi import CLIENT_GONE
from tests.unit.app.server.clients import (
    OPEN,
    SERVER_NAME,
    Application,
    Client,
    endpoint,
    request_bytes,
    serving,
    until,
)


def test_the_environment_says_who_asks_and_how() -> None:
    with serving(Application()) as server, Client(server.address) as client:
        answer = client.ask("GET", "/environ?a=b%20c", X_Thing="value")
        environ = answer.json()
        assert environ["wsgi.url_scheme"] == "https"
        assert environ["REMOTE_ADDR"] == "127.0.0.1"
        assert environ["REMOTE_PORT"] == str(client.socket.getsockname()[1])
        assert environ["SERVER_NAME"] == "127.0.0.1"
        assert environ["SERVER_PORT"] == str(server.address[1])
        assert environ["QUERY_STRING"] == "a=b%20c"
        assert environ["HTTP_X_THING"] == "value"
        assert environ["wsgi.input_terminated"] is True
        assert answer.headers["server"] == SERVER_NAME


def test_methods_and_keep_alive_on_one_connection() -> None:
    with serving(Application()) as server, Client(server.address) as client:
        for _ in range(3):
            answer = client.ask("GET", "/echo")
            assert answer.json()["path"] == "/echo"
            assert answer.headers["keep-alive"] == "timeout=75"
            head = client.ask("HEAD", "/echo")
            assert head.status == 200
            assert int(head.headers["content-length"]) > 0
            assert client.ask("POST", "/echo", b"12345").json()["bytes"] == 5
        assert server.front.connections == 1


def test_pipelined_requests_are_answered_in_their_order() -> None:
    application = Application()
    with serving(application, workers=4) as server, Client(server.address) as client:
        paths = [f"/{number}" for number in range(50)]
        client.send(b"".join(request_bytes("POST", path, path.encode()) for path in paths))
        assert [client.response().json()["path"] for _ in paths] == paths
    assert application.calls == paths


def test_the_client_may_ask_to_close() -> None:
    with serving(Application()) as server, Client(server.address) as client:
        answer = client.ask("GET", "/echo", Connection="Close")
        assert answer.headers["connection"] == "close"
        assert client.is_closed()


@pytest.mark.parametrize("keep", [False, True])
def test_http_1_0(keep: bool) -> None:
    with serving(Application()) as server, Client(server.address) as client:
        extra = b"Connection: keep-alive\r\n" if keep else b""
        for _ in range(2 if keep else 1):
            client.send(b"GET /echo HTTP/1.0\r\n" + extra + b"\r\n")
            assert client.response().status == 200
        if not keep:
            assert client.is_closed()


def test_an_expecting_client_gets_one_continue_and_one_answer() -> None:
    with serving(Application()) as server, Client(server.address) as client:
        client.send(
            b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
        )
        assert client.response().status == 100
        client.send(b"hello" + request_bytes("GET", "/next"))
        assert client.response().json()["bytes"] == 5
        assert client.response().json()["path"] == "/next"


def test_pieces_of_the_application_arrive_as_one_body_of_known_length() -> None:
    def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield b"one,"
        yield b"two"

    with serving(application) as server, Client(server.address) as client:
        answer = client.ask("GET", "/", Connection="close")
        assert (answer.headers["content-length"], answer.body) == ("7", b"one,two")


@pytest.mark.parametrize("path", ["/boom", "/late-boom"])
def test_a_failing_application_gives_500_and_says_nothing(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with serving(Application(), workers=1) as server:
        for _ in range(3):
            with Client(server.address) as client:
                answer = client.ask("GET", path)
                assert answer.status == 500
                assert answer.json() == {"error": "Internal Server Error"}
                assert client.is_closed()
        with Client(server.address) as client:
            assert client.ask("GET", "/echo").status == 200, "the worker survived"
    assert '"error": "RuntimeError", "place": "clients.py:' in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize("status", [200, 400, 413, 503])
def test_an_answer_of_any_status_leaves_the_connection_open(status: int) -> None:
    """The application has the whole body; what is too large to be read never gets to it."""
    with serving(Application()) as server, Client(server.address) as client:
        for _ in range(2):
            answer = client.ask("POST", f"/status/{status}", b"body")
            assert answer.status == status
            assert answer.headers["connection"] == "keep-alive"
        assert client.ask("POST", f"/status/{status}", b"", Connection="close").status == status
        assert client.is_closed()


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/3.0\r\n\r\n", 505),
        (b"GET /" + b"x" * 20_000, 431),
        (b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000000\r\n\r\n", 413),
    ],
)
def test_refusals_are_json_and_reach_no_worker(raw: bytes, status: int) -> None:
    application = Application()
    with serving(application) as server, Client(server.address) as client:
        client.send(raw)
        answer = client.response()
        assert answer.status == status
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["connection"] == "close"
        assert answer.headers["server"] == SERVER_NAME
        assert answer.json()["error"]
        assert client.is_closed()
    assert application.calls == []


def test_threads_are_the_workers_and_one_loop() -> None:
    before = threading.active_count()
    with serving(Application(), workers=3) as server, Client(server.address) as client:
        client.ask("GET", "/echo")
        assert threading.active_count() == before + 3 + 1
    assert threading.active_count() == before


def test_a_body_is_freed_when_its_answer_is_there() -> None:
    bodies: list[BytesIO] = []

    def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        bodies.append(environ["wsgi.input"])
        start_response("200 OK", [("Content-Length", "0")])
        return []

    with serving(application) as server, Client(server.address) as client:
        client.ask("POST", "/", bytes(100_000))
        assert bodies[0].closed
        until(lambda: server.front.buffered_bytes == 0)


def test_a_request_leaves_no_cycle_behind() -> None:
    seen: list[weakref.ref[object]] = []

    def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        seen.append(weakref.ref(environ[CLIENT_GONE]))
        start_response("200 OK", [("Content-Length", "0")])
        return []

    gc.disable()
    try:
        with serving(application) as server, Client(server.address) as client:
            client.ask("GET", "/")
            until(lambda: seen[0]() is None)
    finally:
        gc.enable()


def test_stop_lets_a_running_request_finish() -> None:
    application = Application()
    with serving(application) as server:
        running, idle = Client(server.address), Client(server.address)
        idle.ask("GET", "/echo")
        running.send(request_bytes("GET", "/wait"))
        assert application.entered.acquire(timeout=20)
        stopper = threading.Thread(target=server.stop)
        stopper.start()
        assert idle.is_closed()
        assert stopper.is_alive()
        application.release.set()
        answer = running.response()
        assert answer.status == 200
        assert answer.headers["connection"] == "close"
        assert running.is_closed()
        stopper.join(20)
        assert not stopper.is_alive()
        with pytest.raises(ConnectionRefusedError):
            Client(server.address)
        running.close()
        idle.close()


def test_serve_forever_ends_after_stop_from_another_thread() -> None:
    server = ApplianceServer(Application(), endpoint(), ("127.0.0.1", 0), 1, SERVER_NAME, gate=OPEN)
    address = server.bind()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    with Client(address) as client:
        assert client.ask("GET", "/echo").status == 200
    server.stop()
    thread.join(20)
    assert not thread.is_alive()


def test_stop_works_from_a_signal_handler_inside_of_serve_forever() -> None:
    server = ApplianceServer(Application(), endpoint(), ("127.0.0.1", 0), 1, SERVER_NAME, gate=OPEN)
    address = server.bind()
    answers: list[int] = []

    def ask_and_interrupt() -> None:
        with Client(address) as client:
            answers.append(client.ask("GET", "/echo").status)
            os.kill(os.getpid(), signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, lambda *_: server.stop())
    try:
        thread = threading.Thread(target=ask_and_interrupt)
        thread.start()
        server.serve_forever()
        thread.join(20)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert answers == [200]
    assert server.front.connections == 0


def test_a_server_that_never_ran_can_be_closed() -> None:
    server = ApplianceServer(Application(), endpoint(), ("127.0.0.1", 0), 1, SERVER_NAME, gate=OPEN)
    with pytest.raises(ConfigError, match="bind"):
        _ = server.address
    server.bind()
    server.close()


def test_no_workers_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="workers"):
        ApplianceServer(Application(), endpoint(), ("127.0.0.1", 0), 0, SERVER_NAME, gate=OPEN)
