"""The open connections, and who has to go when there are too many."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from app.server.connection import Connection, Phase
from app.server.transport import TransportLimits

_WRITE_TURN_BYTES: Final = 512 * 1024
"""Ciphertext sent to one client per turn, so that a fast one doesn't keep the others waiting."""


@dataclass(slots=True, eq=False)
class Peer:
    """A connection with its socket.

    Attributes:
        socket: non-blocking.
        host: the client's address.
        connection: its state.
        mask: what the selector watches the socket for, 0 for nothing.
        unsent: ciphertext waits for the socket to take it.
        shut: this side of the socket is closed.
        answer_bytes: size of the answer that is being sent.
        was_answered: it asked for something, got it, and was there for it.
    """

    socket: socket.socket
    host: str
    connection: Connection
    mask: int = 0
    unsent: bool = False
    shut: bool = False
    answer_bytes: int = 0
    was_answered: bool = False

    def flush(self, now: float) -> None:
        """Sends until nothing is left or the socket or the turn is full; sets `unsent`."""
        self.unsent = True
        budget = _WRITE_TURN_BYTES
        while budget > 0:
            data = self.connection.outgoing()
            if not data:
                if not self.connection.flushed(now):
                    self.unsent = False
                    return
                continue
            try:
                size = self.socket.send(data)
            except BlockingIOError:
                return
            self.connection.sent(size, now)
            budget -= size


class Peers:
    """All open connections in the order in which they came.

    Args:
        limits: how many there may be in total, of one address, and in the handshake.
    """

    def __init__(self, limits: TransportLimits) -> None:
        self._limits = limits
        self._all: dict[Peer, None] = {}
        self._handshakes: dict[Peer, None] = {}
        self._hosts: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Peer]:
        return iter(self._all)

    def __contains__(self, peer: object) -> bool:
        return peer in self._all

    def add(self, peer: Peer) -> None:
        """Takes a new connection in, which starts with its handshake."""
        self._all[peer] = None
        self._handshakes[peer] = None
        self._hosts[peer.host] += 1

    def note_established(self, peer: Peer) -> None:
        """Notes that a handshake is over; calling it again does nothing."""
        self._handshakes.pop(peer, None)

    def remove(self, peer: Peer) -> None:
        """Forgets a connection that is in."""
        del self._all[peer]
        self._handshakes.pop(peer, None)
        self._hosts[peer.host] -= 1
        if not self._hosts[peer.host]:
            del self._hosts[peer.host]

    def is_shaking(self, peer: Peer) -> bool:
        """Whether the connection is in its handshake."""
        return peer in self._handshakes

    def is_full(self) -> bool:
        """Whether there are as many connections as there may be."""
        return len(self._all) >= self._limits.max_connections

    def is_at_limit(self, host: str) -> bool:
        """Whether an address has as many connections as it may have."""
        return self._hosts[host] >= self._limits.max_connections_per_address

    def surplus_handshake(self) -> Peer | None:
        """Gives the handshake to drop for a new one, None while there may be more of them.

        It is the oldest one of the address that has most: silent clients push out one another
        before they push out the clients of other addresses.
        """
        if len(self._handshakes) < self._limits.max_handshakes:
            return None
        hosts = Counter(peer.host for peer in self._handshakes)
        most = max(hosts.values())
        return next(peer for peer in self._handshakes if hosts[peer.host] == most)

    def longest_idle(self) -> Peer | None:
        """Gives the connection that has been without a request for longest, if there is one."""
        idle = [peer for peer in self._all if peer.connection.phase is Phase.IDLE]
        return min(idle, key=lambda peer: peer.connection.deadline, default=None)
