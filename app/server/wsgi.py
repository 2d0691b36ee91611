"""One complete request through the WSGI application (PEP 3333), from memory to memory.

The transport has checked the head and received the body before, so nothing is parsed or read here;
the answer is kept in the pieces that the application gave, views of memory among them.
"""

from __future__ import annotations

import email.utils
import logging
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from app.server import logs
from app.server.framing import json_answer
from app.server.logs import Event
from app.server.request import Request

WsgiApp = Callable[[dict[str, Any], Any], Iterable[bytes]]

ADMISSION: Final = "cloister.admission"
"""Environment key of the request's `Admission`. Without one nothing but health is served."""

CLIENT: Final = "cloister.client"
"""Environment key of whose request it is, as `app.serving.accounts` tells clients apart."""

CLIENT_GONE: Final = "cloister.client_gone"
"""Environment key of a function without arguments: True once nobody waits for the answer."""

QUEUED_NS: Final = "cloister.queued_ns"
"""Environment key: how long the request has waited for a worker, in nanoseconds."""

_SLASH: Final = re.compile(rb"%2[Ff]")
_WITHOUT_PREFIX: Final = (b"content-type", b"content-length")
_NO_CONTENT: Final = ("1", "204", "304")
"""How statuses begin whose answers have no body: RFC 9110 §8.6 forbids them a length."""


@dataclass(frozen=True, slots=True)
class WsgiRunner:
    """Makes answers of requests; used by several threads.

    Attributes:
        application: the WSGI application.
        server_name: the `Server:` header.
        keep_alive_s: what clients are told of how long a connection stays open.
        may_stay_open: whether connections stay open after their answers.
        environment: further keys of every request's environment.
    """

    application: WsgiApp
    server_name: str
    keep_alive_s: float
    may_stay_open: Callable[[], bool]
    environment: Mapping[str, Any]

    def run(self, request: Request) -> tuple[list[bytes], bool]:
        """Gives the whole answer in pieces, and whether the connection stays open after it."""
        answer = _Answer()
        try:
            pieces = self.application(self._environ(request), answer.start)
            try:
                body = [*answer.written, *(piece for piece in pieces if len(piece))]
            finally:
                if hasattr(pieces, "close"):
                    pieces.close()
        except Exception as error:
            logs.write(logging.ERROR, Event.REQUEST_FAILED, error=error)
            is_head = request.head.method == b"HEAD"
            failure = json_answer(500, "Internal Server Error", self.server_name, head_only=is_head)
            return [failure], False
        finally:
            with suppress(BufferError):  # the application still has a view on it
                request.body.close()
        keep_open = self.may_stay_open() and request.head.keep_alive
        head = self._head(answer, sum(map(len, body)), request, keep_open=keep_open)
        return [head] if request.head.method == b"HEAD" else [head, *body], keep_open

    def _head(
        self, answer: _Answer, body_bytes: int, request: Request, *, keep_open: bool
    ) -> bytes:
        lines = [
            f"HTTP/1.1 {answer.status}",
            *(f"{name}: {value}" for name, value in answer.headers),
            f"Server: {self.server_name}",
            f"Date: {email.utils.formatdate(usegmt=True)}",
        ]
        has_length = any(name.lower() == "content-length" for name, _ in answer.headers)
        if not has_length and not answer.status.startswith(_NO_CONTENT):
            lines.append(f"Content-Length: {body_bytes}")
        if keep_open:
            lines += ["Connection: keep-alive", f"Keep-Alive: timeout={int(self.keep_alive_s)}"]
        else:
            lines.append("Connection: close")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def _environ(self, request: Request) -> dict[str, Any]:
        head = request.head
        path, _, query = head.target.partition(b"?")
        # An encoded slash stays encoded, so that it never separates what it is a part of.
        path = b"%2F".join(unquote_to_bytes(part) for part in _SLASH.split(path))
        environ: dict[str, Any] = {
            "REQUEST_METHOD": head.method.decode("ascii"),
            "SCRIPT_NAME": "",
            "PATH_INFO": path.decode("latin-1"),
            "QUERY_STRING": query.decode("latin-1"),
            "SERVER_PROTOCOL": f"HTTP/1.{head.minor_version}",
            "REMOTE_ADDR": request.address[0],
            "REMOTE_PORT": str(request.address[1]),
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "https",
            "wsgi.input": request.body,
            "wsgi.input_terminated": True,  # so that nobody wraps and copies it
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
            **self.environment,
            CLIENT: request.client,
            CLIENT_GONE: lambda: request.abandoned,
            QUEUED_NS: time.perf_counter_ns() - request.submitted_ns,
        }
        if request.admission is not None:
            environ[ADMISSION] = request.admission
        for name, value in head.headers:
            key = name.decode("ascii").upper().replace("-", "_")
            key = key if name in _WITHOUT_PREFIX else f"HTTP_{key}"
            text = value.decode("latin-1")
            environ[key] = f"{environ[key]}, {text}" if key in environ else text
        return environ


class _Answer:
    """What the application says of its answer before it gives the body."""

    def __init__(self) -> None:
        self.status = ""
        self.headers: Sequence[tuple[str, str]] = ()
        self.written: list[bytes] = []

    def start(
        self, status: str, headers: Sequence[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], None]:
        """The `start_response` of PEP 3333; nothing is sent yet, so it may be called again."""
        del exc_info
        self.status, self.headers = status, headers
        return self.written.append
