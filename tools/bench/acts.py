"""What one hostile client does, again and again; each function is one way to be hostile.

An act is a generator: each of its steps is something that the client does, and may take as long
as the client has patience. `tools.bench.attackers` says which acts make an attack.
"""

from __future__ import annotations

import http.client
import random
import re
import select
import socket
import ssl
import struct
import tempfile
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeAlias

from tools.bench import hostile
from tools.bench.certificates import slow_chain
from tools.bench.client import Endpoint
from tools.serving_client.connection import parse_url

CLOSED: Final = "closed"
SILENT: Final = "no answer"
LEFT: Final = "left"
REFUSED: Final = "no connection"
"""What may come instead of a status: the connection is closed, nothing within the client's
patience, the client itself went before an answer, or it never had a connection."""

CONNECT_S: Final = 20.0
BYTE_EVERY_S: Final = 1.0

_PAUSE_S: Final = 0.1
_RESET: Final = struct.pack("ii", 1, 0)
_READ_BYTES: Final = 256 * 1024
_STATUS: Final = re.compile(rb"HTTP/1\.1 (\d{3}) ")

NEW_PER_S: Final = 500.0
"""Connections from new addresses, of each client."""

_KEPT: Final = 300
"""Of them that are open at a time: as many as the appliance lets shake hands, and more."""

_ADDRESSES: Final = 1 << 16

_SIP_BYTES: Final = 16 * 1024
_NARROW_BYTES: Final = 4096
"""What is taken of an answer in one step, and the smallest buffer of the kernel for it."""


@dataclass(frozen=True, slots=True)
class Line:
    """How one attacker reaches the server, and what it was answered.

    Attributes:
        endpoint: the server.
        context: trusts it.
        stop: ends the attack.
        seen: what was answered, by status or what came instead.
        place: number among the attackers.
        source: the address that it comes from.
        patience_s: how long it waits for an answer.
    """

    endpoint: Endpoint
    context: ssl.SSLContext
    stop: threading.Event
    seen: Counter[str]
    place: int
    source: str
    patience_s: float

    @property
    def server(self) -> tuple[str, int]:
        """Host name and port."""
        return parse_url(self.endpoint.url)

    def tcp(self, receive_bytes: int = 0) -> socket.socket | None:
        """Connects; None when it can't, which counts.

        Args:
            receive_bytes: of the kernel for what comes; 0 for its own choice.
        """
        raw = socket.socket()
        try:
            if receive_bytes:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
            raw.settimeout(CONNECT_S)
            raw.bind((self.source, 0))
            raw.connect(self.server)
        except OSError:
            raw.close()
            self._refused()
            return None
        return raw

    def tls(
        self, context: ssl.SSLContext | None = None, receive_bytes: int = 0
    ) -> ssl.SSLSocket | None:
        """Connects and shakes hands; None when it can't, which counts.

        Args:
            context: other settings than those that trust the server.
            receive_bytes: as for `tcp`.
        """
        raw = self.tcp(receive_bytes)
        if raw is None:
            return None
        try:
            secured = (context or self.context).wrap_socket(raw, server_hostname=self.server[0])
        except OSError:
            raw.close()
            self._refused()
            return None
        secured.settimeout(self.patience_s)
        return secured

    def answer(self, secured: ssl.SSLSocket) -> bool:
        """Reads and counts what comes; tells whether the connection can be used again."""
        response = http.client.HTTPResponse(secured)
        try:
            response.begin()
            response.read()
        except TimeoutError:
            return self.count(SILENT)
        except (OSError, http.client.HTTPException):
            return self.count(CLOSED)
        finally:
            response.close()
        self.count(str(response.status))
        return not response.will_close

    def count(self, outcome: str) -> bool:
        """Notes an outcome; false, as the connection is done with."""
        self.seen[outcome] += 1
        return False

    def count_statuses(self, received: bytes) -> None:
        """Notes the status of each answer in what came."""
        self.seen.update(status.decode() for status in _STATUS.findall(received))

    def _refused(self) -> None:
        self.seen[REFUSED] += 1
        self.stop.wait(_PAUSE_S)


Act: TypeAlias = Callable[[Line, Iterator[bytes]], Iterator[None]]


def ask(line: Line, messages: Iterator[bytes]) -> Iterator[None]:
    """Sends whole messages and reads the answers, on one connection for as long as it lasts."""
    while True:
        secured = line.tls()
        if secured is None:
            yield
            continue
        with secured:
            is_usable = True
            while is_usable:
                _send(secured, next(messages))
                is_usable = line.answer(secured)
                yield


def _send(secured: ssl.SSLSocket, message: bytes) -> None:
    """Sends; a server that has closed may still have answered, so that is read all the same."""
    with suppress(OSError):
        secured.sendall(message)


def leave(line: Line, messages: Iterator[bytes]) -> Iterator[None]:
    """Sends a message and resets the connection."""
    while True:
        secured = line.tls()
        if secured is not None:
            with secured:
                _send(secured, next(messages))
                secured.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            line.count(LEFT)
        yield


def drip(line: Line, messages: Iterator[bytes]) -> Iterator[None]:
    """Sends a byte per second until the server has enough of it."""
    while True:
        secured = line.tls()
        if secured is None:
            yield
            continue
        with secured:
            for byte in next(messages):
                _send(secured, bytes([byte]))
                yield
                if select.select([secured], [], [], BYTE_EVERY_S)[0]:
                    line.answer(secured)
                    break


def stall(line: Line, _messages: Iterator[bytes]) -> Iterator[None]:
    """Sends half of a handshake's first message and waits for the end."""
    hello = hostile.client_hello(line.context)
    while True:
        raw = line.tcp()
        if raw is None:
            yield
            continue
        with raw, suppress(OSError):
            raw.sendall(hello[: len(hello) // 2])
            yield
            while not select.select([raw], [], [], BYTE_EVERY_S)[0]:
                yield
        line.count(CLOSED)


@dataclass(frozen=True, slots=True)
class Hold:
    """Sends a message and then goes on slowly, for as long as the server lets it.

    Attributes:
        bytes_per_s: how slowly; 0 for nothing more.
    """

    bytes_per_s: int

    def __call__(self, line: Line, messages: Iterator[bytes]) -> Iterator[None]:
        """Acts."""
        piece = bytes(round(self.bytes_per_s * BYTE_EVERY_S))
        while True:
            secured = line.tls()
            if secured is None:
                yield
                continue
            with secured:
                _send(secured, next(messages))
                while not select.select([secured], [], [], BYTE_EVERY_S)[0]:
                    _send(secured, piece)
                    yield
                line.answer(secured)
                yield


def churn(line: Line, _messages: Iterator[bytes]) -> Iterator[None]:
    """Connects from ever new addresses of the loopback network and says nothing."""
    server = (socket.gethostbyname(line.server[0]), line.server[1])
    number = random.randrange(_ADDRESSES)  # noqa: S311 - where to begin, not a secret
    silent: deque[socket.socket] = deque()
    try:
        while True:
            number = (number + 1) % _ADDRESSES
            raw = socket.socket()
            silent.append(raw)
            raw.setblocking(False)
            with suppress(OSError):
                raw.bind((f"127.{16 + line.place}.{number >> 8}.{number & 255}", 0))
                raw.connect_ex(server)
            if len(silent) > _KEPT:
                silent.popleft().close()
                line.count(LEFT)
            line.stop.wait(1 / NEW_PER_S)
            yield
    finally:
        for raw in silent:
            raw.close()


def pipeline(line: Line, messages: Iterator[bytes]) -> Iterator[None]:
    """Sends requests without waiting for answers, and counts the answers that come."""
    while True:
        secured = line.tls()
        if secured is None:
            yield
            continue
        secured.setblocking(False)
        unsent = memoryview(b"")
        with secured, suppress(OSError):
            while True:
                unsent = unsent or memoryview(next(messages))
                with suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    unsent = unsent[secured.send(unsent) :]
                with suppress(ssl.SSLWantReadError):
                    received = secured.recv(_READ_BYTES)
                    if not received:
                        break
                    line.count_statuses(received)
                yield
                select.select([secured], [secured], [], BYTE_EVERY_S)
        line.count(CLOSED)


def present(line: Line, messages: Iterator[bytes]) -> Iterator[None]:
    """Shows certificates that nobody asked for, with keys that are dear to check, and asks."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "chain.pem"
        path.write_bytes(slow_chain())
        context = replace(line.endpoint.trust, certificate=path).context()
    while True:
        secured = line.tls(context)
        if secured is not None:
            with secured:
                _send(secured, next(messages))
                line.answer(secured)
        yield


def sip(line: Line, messages: Iterator[bytes]) -> Iterator[None]:
    """Asks for much and takes next to nothing of the answer."""
    while True:
        secured = line.tls(receive_bytes=_NARROW_BYTES)
        if secured is None:
            yield
            continue
        with secured, suppress(OSError):
            _send(secured, next(messages))
            while received := secured.recv(_SIP_BYTES):
                line.count_statuses(received)
                yield
                line.stop.wait(BYTE_EVERY_S)
        line.count(CLOSED)
        yield
