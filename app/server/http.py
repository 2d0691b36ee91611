"""HTTP and WSGI in worker threads, on cheroot 11.1.2 without its sockets.

The event loop of `app.server.front` delivers whole requests; cheroot's pool runs
its parser and WSGI gateway over memory. Of cheroot these parts are used, which
`tests/unit/app/server/test_http.py` pins together with its version:

* `workers.threadpool`: `ThreadPool(server, min, max, accepted_queue_size)`,
  its `grow`, `shrink`, `min`, the overridden `_spawn_worker`, and `_queue` and
  `get`, which are replaced; a
  `WorkerThread` takes an object from `server.requests.get()`, calls its
  `communicate()`, then `server.put_conn(it)` if that was true, else `it.close()`;
* `server.HTTPConnection.communicate`: makes a `RequestHandlerClass`, calls its
  `parse_request()` and `respond()`; everything else of the connection is ours;
* `server.HTTPRequest`: reads `conn.rfile`, writes `conn.wfile`, reports its own
  errors through `simple_response`, adds headers in `send_headers`;
* `wsgi.Gateway_10`: builds the environment from the request.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from http import HTTPStatus
from io import BytesIO
from typing import Any, Final

from cheroot import wsgi
from cheroot.server import HTTPConnection, HTTPRequest
from cheroot.workers.threadpool import ThreadPool, WorkerThread

from app.access.admission import Gate
from app.errors import ConfigError
from app.server import logs
from app.server.counters import TRANSPORT, TransportCounters
from app.server.framing import error_answer
from app.server.front import Clock, Front
from app.server.logs import Event
from app.server.request import Request
from app.server.routes.rights import ADMISSION
from app.server.tls.channel import Endpoint
from app.server.transport import TransportLimits
from app.serving.fair import FairQueue
from app.serving.queue import RequestQueue

WsgiApp = Callable[[dict[str, Any], Any], Iterable[bytes]]

QUEUED_NS: Final = "cloister.queued_ns"
"""WSGI environment key: how long the request has waited for a worker, in nanoseconds."""

CLIENT_GONE: Final = "cloister.client_gone"
"""WSGI environment key of a function without arguments: True once nobody waits for the answer."""

_WORKERS_TO_SPARE: Final = 3
"""With fewer workers a tenant would be left with a single one."""


class ApplianceServer:
    """Serves a WSGI application over TLS.

    It takes `workers` threads and one for the event loop: that of `serve_forever`'s caller, or
    one of its own after `start`. Use an object once.

    Args:
        wsgi_app: called in worker threads; the request's body is complete by then.
        endpoint: makes the TLS side of each connection, called in the event loop's thread.
        address: host and port to listen on; port 0 asks for a free one.
        workers: threads that run the application.
        server_name: the `Server:` header.
        gate: who may ask for what.
        limits: what clients may take.
        clock: monotonic, in seconds.

    Raises:
        ConfigError: no worker.
    """

    def __init__(
        self,
        wsgi_app: WsgiApp,
        endpoint: Endpoint,
        address: tuple[str, int],
        workers: int,
        server_name: str,
        *,
        gate: Gate,
        limits: TransportLimits | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        if workers < 1:
            raise ConfigError("workers", [f"expected 1 or more, got {workers}"])
        self._limits = limits or TransportLimits()
        self._asked_address = address
        self._address: tuple[str, int] | None = None
        self._clock = clock
        self._http = _HttpServer(address, wsgi_app, workers, server_name, self._limits)
        self._front = Front(
            new_channel=endpoint.channel,
            submit=self._http.submit,
            gate=gate,
            server_name=server_name,
            limits=self._limits,
            clock=clock,
        )
        self._http.front = self._front
        self._thread: threading.Thread | None = None

    @property
    def front(self) -> Front:
        """The event loop, for its counters."""
        return self._front

    @property
    def address(self) -> tuple[str, int]:
        """The address that is listened on, after `bind`, `start` or in `serve_forever`.

        Raises:
            ConfigError: it isn't bound yet.
        """
        if self._address is None:
            raise ConfigError("listen address", ["call bind() first"])
        return self._address

    def bind(self) -> tuple[str, int]:
        """Opens the listening socket; clients that connect now wait until the server runs.

        Raises:
            ConfigError: the address can't be used.
        """
        if self._address is None:
            self._address = self._front.listen(self._asked_address)
            self._http.bind_addr = self._address
        return self._address

    def start(self) -> None:
        """Serves in a background thread; `stop` ends it."""
        self.bind()
        self._thread = threading.Thread(target=self._run, name="front", daemon=True)
        self._thread.start()

    def serve_forever(self) -> None:
        """Serves in this thread until `stop` is called from a signal handler or another thread."""
        self.bind()
        self._run()

    def stop(self) -> None:
        """Stops accepting, lets running requests finish within the time limit, closes.

        Waits for the end only after `start`: a signal handler that runs inside of
        `serve_forever` couldn't.
        """
        self._front.stop()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def close(self) -> None:
        """Gives back what a server holds that never ran."""
        self._front.close()

    def _run(self) -> None:
        self._http.pool.start()
        try:
            self._front.run()
        finally:
            # The loop has waited for running requests already: a worker that is still busy is
            # stuck, and as a daemon it doesn't keep the process alive.
            self._http.pool.finish(timeout_s=1.0)


class _Pool(ThreadPool):
    """cheroot's pool with fair turns, daemon threads and an end that can't hang.

    Requests wait by tenant and hold no thread meanwhile. Where there are workers enough, one is
    always left by a tenant, so that no other one waits behind its slow requests.
    """

    def __init__(self, server: _HttpServer, workers: int, limits: TransportLimits) -> None:
        super().__init__(server, min=workers, max=workers)
        self._spawned: list[threading.Thread] = []
        self.waiting: RequestQueue[_MemoryConnection] = RequestQueue(
            FairQueue(
                places=workers + limits.max_queued_requests,
                places_per_tenant=limits.max_queued_per_tenant,
                running_per_tenant=workers - 1 if workers >= _WORKERS_TO_SPARE else workers,
            )
        )
        self._queue = self.waiting
        self.get = self.waiting.get

    def _spawn_worker(self) -> threading.Thread:
        worker: threading.Thread = WorkerThread(self.server)  # type: ignore[no-untyped-call]
        worker.name = f"worker-{len(self._spawned)}"
        worker.daemon = True
        worker.start()
        self._spawned.append(worker)
        return worker

    def finish(self, timeout_s: float) -> None:
        """Ends idle workers; waits for them this long in total."""
        self.min = 0
        self.shrink(len(self._spawned))
        end = time.monotonic() + timeout_s
        for worker in self._spawned:
            worker.join(max(0.0, end - time.monotonic()))


class _HttpServer(wsgi.Server):
    """What cheroot's workers, requests and gateway ask their server for; it has no socket."""

    def __init__(
        self,
        address: tuple[str, int],
        wsgi_app: WsgiApp,
        workers: int,
        server_name: str,
        limits: TransportLimits,
    ) -> None:
        super().__init__(address, wsgi_app, server_name=server_name)
        self.timeout = int(limits.keep_alive_s)
        self.software = server_name
        self.gateway = _Gateway
        self.pool = _Pool(self, workers, limits)
        self.requests = self.pool
        self.front: Front

    @property
    def can_add_keepalive_connection(self) -> bool:
        """Asked before each answer; the event loop keeps its own limits."""
        return not self.front.stopping

    def submit(self, request: Request) -> Request | None:
        """Queues a request; gives the one that has no place, if any."""
        refused = self.pool.waiting.offer(_MemoryConnection(self, request), request.tenant)
        return None if refused is None else refused.request

    def counters(self) -> TransportCounters:
        """Gives a copy of the transport's counters; callable from any thread."""
        return self.front.counters.copy(
            connections=self.front.connections,
            working=self.front.requests,
            queued=self.pool.waiting.qsize(),
            body_bytes=self.front.buffered_bytes,
        )

    def put_conn(self, conn: _MemoryConnection) -> None:
        """Called by a worker when the connection stays open."""
        conn.finish(keep_open=True)

    def error_log(self, msg: str = "", level: int = logging.INFO, traceback: bool = False) -> None:
        """Logs an error without the given texts: they may hold a client's data."""
        del msg, traceback
        error = sys.exc_info()[1]
        if error is not None:
            logs.write(level, Event.REQUEST_FAILED, error=error)


class _Answer:
    """cheroot's `wfile`: keeps the pieces of an answer as they are."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []

    def write(self, chunk: bytes) -> int:
        self.chunks.append(chunk)
        return len(chunk)


class _Request(HTTPRequest):
    """One request; framing was checked before, errors are JSON."""

    def __init__(self, server: _HttpServer, conn: _MemoryConnection) -> None:
        super().__init__(server, conn)
        self.scheme = b"https"
        self.method = conn.request.head.method

    def read_request_headers(self) -> bool:
        understood = super().read_request_headers()  # type: ignore[no-untyped-call]
        self.close_connection = not self.conn.request.head.keep_alive
        return bool(understood)

    def send_headers(self) -> None:
        if not self.server.can_add_keepalive_connection:
            self.close_connection = True
        keeps_open = not self.close_connection and self.response_protocol == "HTTP/1.1"
        if keeps_open:
            # With a word of its own cheroot leaves it open after a 413: the body was read whole.
            self.outheaders.append((b"Connection", b"keep-alive"))
            timeout = f"timeout={self.server.timeout}".encode()
            self.outheaders.append((b"Keep-Alive", timeout))
        super().send_headers()
        self.close_connection = self.close_connection and not keeps_open

    def write(self, chunk: bytes) -> None:
        if self.method != b"HEAD":
            super().write(chunk)

    def simple_response(self, status: str, msg: str = "") -> None:
        code = int(status[:3])
        self.close_connection = True
        self.conn.wfile.write(
            error_answer(
                code,
                msg or HTTPStatus(code).phrase,
                self.server.server_name,
                head_only=self.method == b"HEAD",
            )
        )


class _MemoryConnection(HTTPConnection):
    """One complete request in the place of a connection."""

    RequestHandlerClass = _Request

    def __init__(self, server: _HttpServer, request: Request) -> None:
        # Not super().__init__: it opens a socket's files and makes a reference cycle that
        # would keep bodies alive until the garbage collector comes.
        self.server = server
        self.request = request
        self.rfile = BytesIO(request.head.wire)
        self.wfile = _Answer()
        self.requests_seen = 0
        self.submitted_ns = time.perf_counter_ns()
        self._began_ns = 0
        self.remote_addr, self.remote_port = request.address

    def communicate(self) -> bool:
        """Called by a worker; a request that nobody waits for any more isn't looked at."""
        self._began_ns = time.thread_time_ns()
        return not self.request.abandoned and bool(super().communicate())  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Called by a worker when the connection is to be closed after the answer."""
        self.finish(keep_open=False)

    def finish(self, *, keep_open: bool) -> None:
        """Frees the body and hands the answer to the event loop."""
        chunks, self.wfile.chunks = self.wfile.chunks, []
        with suppress(BufferError):  # the application still has a view on it
            self.request.body.close()
        if not chunks:
            chunks.append(error_answer(500, "internal error", self.server.server_name))
        computed_ns = time.thread_time_ns() - self._began_ns
        self.server.pool.waiting.done(self.request.tenant, computed_ns)
        self.server.front.deliver(self.request, chunks, keep_open)

    def _conditional_error(self, req: _Request, response: str) -> None:
        """Replaces whatever was written: nothing has left this process yet."""
        self.wfile.chunks.clear()
        req.simple_response(response)


class _Gateway(wsgi.Gateway_10):
    """The WSGI environment with the body as it is in memory, and answers as they are."""

    def respond(self) -> None:
        """As in cheroot, but a piece may be a view of memory that goes out without a copy."""
        answer: Any = self.req.server.wsgi_app(self.env, self.start_response)
        try:
            for chunk in answer:
                if len(chunk):
                    self.write(chunk)
        finally:
            self.req.ensure_headers_sent()
            if hasattr(answer, "close"):
                answer.close()

    def get_environ(self) -> dict[str, Any]:  # type: ignore[override] # cheroot's stub says None
        environ: dict[str, Any] = super().get_environ()  # type: ignore[no-untyped-call]
        request: Request = self.req.conn.request
        environ["SERVER_NAME"] = self.req.server.bind_addr[0]
        environ["wsgi.input"] = request.body
        environ["wsgi.input_terminated"] = True  # so that nobody wraps and copies it
        environ[CLIENT_GONE] = lambda: request.abandoned
        if request.admission is not None:
            environ[ADMISSION] = request.admission
        environ[TRANSPORT] = self.req.server.counters
        environ[QUEUED_NS] = time.perf_counter_ns() - self.req.conn.submitted_ns
        return environ
