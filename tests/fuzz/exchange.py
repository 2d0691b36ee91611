"""A whole exchange without a socket: framing, admission, HTTP, routes, multipart, errors."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from io import BytesIO
from typing import Any, Final, NoReturn

from app.access.admission import Gate, Pass, Refusal
from app.access.policy import RIGHTS, Policy, Tenant
from app.access.tokens import SALT_BYTES, TokenRecord, token_digest, token_text
from app.audit import Audit
from app.runtime import Runtime
from app.server.application import create_application
from app.server.counters import TRANSPORT, TransportCounters
from app.server.framing import FramingError, Head, json_answer, scan
from app.server.request import Request, address_client, client_of
from app.server.wsgi import WsgiApp, WsgiRunner
from tests import fakes, served

SERVER_NAME: Final = "cloister"
ALL_ID: Final = "0" * 16
FEW_ID: Final = "1" * 16
"""Of the two tokens that let in, one with every right, one with few; the seeds hold both."""
SECRET: Final = "A" * 43


class _Watched:
    """The application, and what it raised that no error handler knows."""

    def __init__(self, application: WsgiApp) -> None:
        self._application = application
        self.unexpected: Exception | None = None

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        self.unexpected = None
        try:
            return self._application(environ, start_response)
        except Exception as error:
            self.unexpected = error
            raise


def exchange(data: bytes) -> None:
    """A request. Without Content-Length its body is whatever follows the head."""
    message = _with_length(data)
    try:
        head = scan(message)
    except FramingError as error:
        return _check(json_answer(error.status, error.reason, SERVER_NAME))
    if head is None:
        return None
    body = message[head.consumed_bytes :][: head.body_bytes]
    if len(body) < head.body_bytes:
        return None
    entry = _gate().admit(head, None, 0.0)
    if isinstance(entry, Refusal):
        return _check(
            json_answer(
                entry.status,
                entry.message,
                SERVER_NAME,
                head_only=head.method == b"HEAD",
                headers=entry.headers,
            ),
            head_only=head.method == b"HEAD",
        )
    return _check(_served(head, body, entry), head_only=head.method == b"HEAD")


def _with_length(data: bytes) -> bytes:
    head, end, body = data.partition(b"\r\n\r\n")
    if not end or b"\r\ncontent-length:" in head.lower():
        return data
    return head + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def _served(head: Head, body: bytes, entry: Pass) -> bytes:
    application, runner, catalogue = _server()
    client = client_of(entry, address_client("192.0.2.1"))
    request = Request(head, BytesIO(body), ("192.0.2.1", 50000), entry, client)
    chunks, _ = runner.run(request)
    catalogue.changes.clear()
    for model in catalogue.models():
        model.calls.clear()
    if application.unexpected is not None:
        raise application.unexpected
    return b"".join(chunks)


@cache
def _gate() -> Gate:
    everything = Tenant("all", None, frozenset(RIGHTS), tokens=(_token(ALL_ID),))
    few = Tenant("few", frozenset({"echo"}), frozenset({"metadata"}), tokens=(_token(FEW_ID),))
    return Gate(Policy((everything, few)))


def _token(token_id: str) -> TokenRecord:
    salt = bytes(SALT_BYTES)
    return TokenRecord(token_id, salt, token_digest(salt, token_text(token_id, SECRET)), "")


@cache
def _server() -> tuple[_Watched, WsgiRunner, served.Models]:
    text = replace(fakes.TENSOR_CARD, inputs=(fakes.spec("x", "n", dtype="string"),))
    text = replace(text, outputs=(fakes.spec("x", "n", dtype="string"),))
    catalogue = served.models(echo=served.Model("echo", 1, text, dict))
    application = create_application(served.catalogue(catalogue), Audit(Runtime.PROCESS))
    application.config["PROPAGATE_EXCEPTIONS"] = True
    application.register_error_handler(Exception, _raise)
    watched = _Watched(application)
    environment = {"SERVER_NAME": "127.0.0.1", "SERVER_PORT": "8443", TRANSPORT: TransportCounters}
    return watched, WsgiRunner(watched, SERVER_NAME, 75, lambda: True, environment), catalogue


def _raise(error: Exception) -> NoReturn:
    raise error


def _check(answer: bytes, *, head_only: bool = False) -> None:
    """Every answer says how long it is, and every refusal why."""
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    status = int(lines[0].split(b" ")[1])
    headers = {name.lower(): value for name, _, value in (line.partition(b": ") for line in lines)}
    assert b"\n" not in head.replace(b"\r\n", b"")
    assert status != 500
    if head_only:
        assert not body
        return
    assert int(headers.get(b"content-length", b"0")) == len(body)
    if status >= 400:
        assert isinstance(json.loads(body)["error"], str)
