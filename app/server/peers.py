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
        connection: its state.
        mask: what the selector watches the socket for, 0 for nothing.
        unsent: ciphertext waits for the socket to take it.
        shut: this side of the socket is closed.
        has_spoken: something came from it.
        answer_client, answer_bytes: whose answer is being sent, and its size.
    """

    socket: socket.socket
    connection: Connection
    mask: int = 0
    unsent: bool = False
    shut: bool = False
    has_spoken: bool = False
    answer_client: str = ""
    answer_bytes: int = 0

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


_WAITS_FOR_CLIENT: Final = (Phase.HANDSHAKE, Phase.HEAD, Phase.BODY)
"""Phases in which a connection has a place and nothing of the server's is under way."""


class Peers:
    """All open connections in the order in which they came.

    Args:
        limits: how many there may be in total, of one address, and in the handshake.
    """

    def __init__(self, limits: TransportLimits) -> None:
        self._limits = limits
        self._all: dict[Peer, str] = {}
        """With the client of the address that each came from."""
        self._connections: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Peer]:
        return iter(self._all)

    def __contains__(self, peer: object) -> bool:
        return peer in self._all

    def add(self, peer: Peer) -> None:
        """Takes a new connection in."""
        self._all[peer] = peer.connection.client
        self._connections[peer.connection.client] += 1

    def remove(self, peer: Peer) -> None:
        """Forgets a connection that is in."""
        address = self._all.pop(peer)
        self._connections[address] -= 1
        if not self._connections[address]:
            del self._connections[address]

    def is_at_limit(self, address: str) -> bool:
        """Whether an address has as many connections as it may have."""
        return self._connections[address] >= self._limits.max_connections_per_address

    def surplus_handshake(self) -> Peer | None:
        """Gives the handshake to drop for a new one, None while there may be more of them.

        It is one of the address that has most of them, and there the oldest of those that never
        sent a byte: an honest client's first bytes come right behind its connection, however long
        its way is.
        """
        handshakes = [peer for peer in self._all if peer.connection.phase is Phase.HANDSHAKE]
        if len(handshakes) < self._limits.max_handshakes:
            return None
        of_address = Counter(self._all[peer] for peer in handshakes)
        return max(handshakes, key=lambda peer: (of_address[self._all[peer]], not peer.has_spoken))

    def surplus(self, address: str) -> Peer | None:
        """Gives the connection that has to go for a new one of an address.

        It is one without a complete request, of an address that has more connections than the new
        one's has; or else the one that has been without a request for longest.

        Returns:
            None while there are places left, or when there is none to give up.
        """
        if len(self._all) < self._limits.max_connections:
            return None
        most = self._connections[address] + 1
        candidates = [
            peer
            for peer, other in self._all.items()
            if peer.connection.phase is Phase.IDLE
            or (peer.connection.phase in _WAITS_FOR_CLIENT and self._connections[other] > most)
        ]
        return max(
            candidates,
            key=lambda peer: (
                max(self._connections[self._all[peer]], most),
                -peer.connection.deadline,
            ),
            default=None,
        )
