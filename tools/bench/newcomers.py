"""A client that connects anew for each request, from some distance.

A handshake is several turns of both sides. On the loopback interface they take no time, so a server
that drops handshakes early would never be caught at it: here each turn takes as long as between
two continents.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tools.bench.load import Service
from tools.bench.rivals import Heard
from tools.serving_client.connection import parse_url

ROUND_TRIP_S: Final = 0.08
EVERY_S: Final = 2.0
"""Between two arrivals: so few that their handshakes don't show in the other client's p99."""

_PATIENCE_S: Final = 10.0
_READ_BYTES: Final = 64 * 1024
_OK: Final = b"HTTP/1.1 200 "


@contextmanager
def newcomers(service: Service) -> Iterator[Heard]:
    """Lets a client come again and again while the block runs; what it got is whole at the end."""
    heard = Heard()
    ended = threading.Event()

    def come() -> None:
        while True:
            started = time.perf_counter()
            problem = _problem(service)
            if problem:
                heard.errors[problem] += 1
            else:
                heard.latencies.append(time.perf_counter() - started)
            if ended.wait(EVERY_S):
                return

    arriving = threading.Thread(target=come, name="newcomer")
    arriving.start()
    try:
        yield heard
    finally:
        ended.set()
        arriving.join()


def _problem(service: Service) -> str:
    """Connects, asks once and leaves; gives what went wrong, "" for nothing."""
    try:
        with socket.create_connection(parse_url(service.endpoint.url), _PATIENCE_S) as raw:
            far = _Far(raw, service)
            far.shake_hands()
            received = far.ask(service)
    except (OSError, ssl.SSLError) as error:
        return type(error).__name__
    if received.startswith(_OK):
        return ""
    return f"status {received[9:12].decode('ascii', 'replace')}" if received else "closed"


class _Far:
    """TLS over a socket whose other end seems far away."""

    def __init__(self, raw: socket.socket, service: Service) -> None:
        self._raw = raw
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._secured = service.endpoint.trust.context().wrap_bio(
            self._incoming, self._outgoing, server_hostname=parse_url(service.endpoint.url)[0]
        )

    def shake_hands(self) -> None:
        """Shakes hands.

        Raises:
            OSError: the server closes or is silent.
        """
        while True:
            try:
                self._secured.do_handshake()
            except ssl.SSLWantReadError:
                self._travel()
            else:
                return

    def ask(self, service: Service) -> bytes:
        """Sends a service's request, its body after its head, and gives the answer's beginning.

        Raises:
            OSError: the server closes or is silent.
        """
        body = b"".join(service.request.body)
        lines = {
            "Host": "localhost",
            "Authorization": f"Bearer {service.endpoint.trust.token}",
            "Content-Length": len(body),
            **service.request.headers,
        }
        head = [f"POST {service.request.path(service.model)} HTTP/1.1"]
        head += [f"{name}: {value}" for name, value in lines.items()]
        for part in ("\r\n".join((*head, "", "")).encode(), body):
            self._secured.write(part)
            self._leave()
        while True:
            try:
                return self._secured.read(_READ_BYTES)
            except ssl.SSLWantReadError:
                self._travel()

    def _leave(self) -> None:
        """Lets what was said arrive, as long after it as an answer to it would come earliest."""
        leaving = self._outgoing.read()
        if leaving:
            time.sleep(ROUND_TRIP_S / 2)
            self._raw.sendall(leaving)
            time.sleep(ROUND_TRIP_S / 2)

    def _travel(self) -> None:
        """Lets what was said arrive, and waits for what comes back."""
        self._leave()
        received = self._raw.recv(_READ_BYTES)
        if not received:
            raise ConnectionResetError("the server closed the connection")
        self._incoming.write(received)
