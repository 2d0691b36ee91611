"""The server: one thread for all sockets, some for the application, a queue between them."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

from app.access.admission import Gate
from app.errors import ConfigError
from app.server.counters import TRANSPORT, TransportCounters
from app.server.front import Clock, Front
from app.server.request import Request
from app.server.tls.channel import Endpoint
from app.server.transport import TransportLimits
from app.server.wsgi import WsgiApp, WsgiRunner
from app.serving.accounts import Accounts
from app.serving.queue import RequestQueue

_WORKERS_END_S = 1.0


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
        accounts: what clients cost; models that are served share it.
        limits: what clients may take.
        clock: monotonic, in seconds.

    Attributes:
        front: the event loop, for its counters.

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
        accounts: Accounts | None = None,
        limits: TransportLimits | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        if workers < 1:
            raise ConfigError("workers", [f"expected 1 or more, got {workers}"])
        limits = limits or TransportLimits()
        accounts = accounts or Accounts()
        self._asked_address = address
        self._address: tuple[str, int] | None = None
        self._queue: RequestQueue[Request] = RequestQueue(
            accounts, workers, workers + limits.max_queued_requests
        )
        self.front = Front(
            new_channel=endpoint.channel,
            submit=lambda request: self._queue.offer(request, request.client),
            gate=gate,
            accounts=accounts,
            server_name=server_name,
            limits=limits,
            clock=clock,
        )
        self._environment: dict[str, object] = {TRANSPORT: self._counters}
        self._wsgi = WsgiRunner(
            wsgi_app,
            server_name,
            limits.keep_alive_s,
            lambda: not self.front.stopping,
            self._environment,
        )
        # Daemons, so that one which is stuck doesn't keep the process alive.
        self._workers = [
            threading.Thread(target=self._work, name=f"worker-{number}", daemon=True)
            for number in range(workers)
        ]
        self._thread: threading.Thread | None = None

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
            host, port = self._address = self.front.listen(self._asked_address)
            self._environment |= {"SERVER_NAME": host, "SERVER_PORT": str(port)}
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
        self.front.stop()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def close(self) -> None:
        """Gives back what a server holds that never ran."""
        self.front.close()

    def _run(self) -> None:
        for worker in self._workers:
            worker.start()
        try:
            self.front.run()
        finally:
            # The loop has waited for running requests already: a worker that is still busy is
            # stuck.
            self._queue.end()
            end = time.monotonic() + _WORKERS_END_S
            for worker in self._workers:
                worker.join(max(0.0, end - time.monotonic()))

    def _work(self) -> None:
        while (turn := self._queue.take()) is not None:
            request, began_ns = turn.request, time.thread_time_ns()
            answer: tuple[list[bytes], bool] = ([], False)
            try:
                if not request.abandoned:
                    answer = self._wsgi.run(request)
            finally:
                self._queue.done(turn, time.thread_time_ns() - began_ns)
                self.front.deliver(request, *answer)
            # Nothing may keep the request and its body alive until the next one comes.
            del turn, request, answer

    def _counters(self) -> TransportCounters:
        """Gives a copy of the transport's counters; callable from any thread."""
        seen = self.front.counters
        return replace(
            seen,
            refusals=seen.refusals.copy(),
            answers=seen.answers.copy(),
            connections=self.front.connections,
            working=self.front.requests,
            queued=len(self._queue),
            body_bytes=self.front.buffered_bytes,
        )
