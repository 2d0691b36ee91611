"""Clients that send what they shouldn't, again and again, and note what they are answered."""

from __future__ import annotations

import http.client
import select
import socket
import ssl
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, unique
from itertools import cycle, islice
from typing import Final

from tools.bench import hostile
from tools.bench.client import Endpoint
from tools.bench.hostile import Target
from tools.bench.rivals import together
from tools.serving_client.connection import parse_url

ADDRESS: Final = "127.0.0.2"
"""Where attackers come from: not from the quiet client's address."""

CLOSED: Final = "closed"
SILENT: Final = "no answer"
LEFT: Final = "left"
REFUSED: Final = "no connection"
"""What may come instead of a status: the connection is closed, nothing within `PATIENCE_S`, the
client itself went before an answer, or it never had a connection."""

ALWAYS_RIGHT: Final = frozenset({"503", REFUSED})
"""Whatever is attacked, as attackers may be more than the appliance serves at a time."""

CONNECT_S: Final = 20.0
PATIENCE_S: Final = 2.0
_PAUSE_S: Final = 0.1
BYTE_EVERY_S: Final = 1.0
_MANY: Final = 200
_SOME: Final = 16
_RESET: Final = struct.pack("ii", 1, 0)


@unique
class Manner(Enum):
    """What an attacker does with its bytes."""

    ASK = "sends them whole and reads the answer"
    LEAVE = "sends them and resets the connection"
    DRIP = "sends a byte per second"
    STALL = "sends a part of a handshake and waits"


@dataclass(frozen=True, slots=True)
class Attack:
    """A way to be hostile.

    Attributes:
        name: short, for figures.
        manner: what is done with the bytes.
        connections: at a time.
        messages: makes the bytes that attackers send in turn.
        right: what a right server answers, beside `ALWAYS_RIGHT`.
    """

    name: str
    manner: Manner
    connections: int
    messages: Callable[[Target], Sequence[bytes]]
    right: frozenset[str]


def _asks(name: str, messages: Callable[[Target], Sequence[bytes]], *right: str) -> Attack:
    return Attack(name, Manner.ASK, _SOME, messages, frozenset(right))


def _whole(target: Target) -> list[bytes]:
    return [target.post(target.json())]


ATTACKS: Final = (
    Attack("unfinished handshakes", Manner.STALL, _MANY, _whole, frozenset({CLOSED})),
    Attack("a byte per second", Manner.DRIP, _MANY, _whole, frozenset({"408", CLOSED})),
    Attack("vanishing clients", Manner.LEAVE, _SOME, hostile.cut, frozenset({LEFT})),
    _asks("wrong lengths", hostile.wrong_lengths, "400", "200", SILENT),
    _asks("smuggled headers", hostile.smuggled, "400", "411"),
    _asks("1 GB bodies", hostile.huge_bodies, "413"),
    _asks("bombs", hostile.bombs, "413"),
    _asks("deep JSON", hostile.nested, "400"),
    _asks("ids of 1 MB", hostile.long_ids, "400"),
    _asks("NaN, Inf, -0", hostile.odd_numbers, "200", "400"),
    _asks("overflowing shapes", hostile.overflowing_shapes, "400", "413"),
)


def attack(
    ready: Callable[[], object],
    stop: threading.Event,
    number: int,
    endpoint: Endpoint,
    target: Target,
) -> Counter[str]:
    """Attacks until the stop; gives what was answered, by status or what came instead.

    Args:
        ready: called when every attacker has been there once.
        stop: ends it.
        number: place in `ATTACKS`.
        endpoint: the server.
        target: whom the bytes are for.
    """
    chosen = ATTACKS[number]
    messages = chosen.messages(target)
    seen: list[Counter[str]] = [Counter() for _ in range(chosen.connections)]
    act = _ACTS[chosen.manner]
    acts = [
        act(_Line(endpoint, stop, mine), islice(cycle(messages), place, None))
        for place, mine in enumerate(seen)
    ]
    together(ready, stop, acts)
    return sum(seen, Counter[str]())


class _Line:
    """How one attacker reaches the server, and what it was answered."""

    def __init__(self, endpoint: Endpoint, stop: threading.Event, seen: Counter[str]) -> None:
        self._address = parse_url(endpoint.url)
        self.context = endpoint.trust.context()
        self.stop = stop
        self.seen = seen

    def tcp(self) -> socket.socket | None:
        """Connects; None when it can't, which counts."""
        try:
            return socket.create_connection(self._address, CONNECT_S, source_address=(ADDRESS, 0))
        except OSError:
            self._refused()
            return None

    def tls(self) -> ssl.SSLSocket | None:
        """Connects and shakes hands; None when it can't, which counts."""
        raw = self.tcp()
        if raw is None:
            return None
        try:
            found = self.context.wrap_socket(raw, server_hostname=self._address[0])
        except OSError:
            raw.close()
            self._refused()
            return None
        found.settimeout(PATIENCE_S)
        return found

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

    def count(self, what: str) -> bool:
        """Notes an outcome; false, as the connection is done with."""
        self.seen[what] += 1
        return False

    def _refused(self) -> None:
        self.seen[REFUSED] += 1
        self.stop.wait(_PAUSE_S)


def _ask(line: _Line, messages: Iterator[bytes]) -> Iterator[None]:
    """Sends whole messages, on one connection for as long as it lasts."""
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


def _leave(line: _Line, messages: Iterator[bytes]) -> Iterator[None]:
    """Sends a message and resets the connection."""
    while True:
        secured = line.tls()
        if secured is not None:
            with secured:
                _send(secured, next(messages))
                secured.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            line.count(LEFT)
        yield


def _drip(line: _Line, messages: Iterator[bytes]) -> Iterator[None]:
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


def _stall(line: _Line, _messages: Iterator[bytes]) -> Iterator[None]:
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


_ACTS: Final = {
    Manner.ASK: _ask,
    Manner.LEAVE: _leave,
    Manner.DRIP: _drip,
    Manner.STALL: _stall,
}
