"""What gives way to requests: handshakes, large bodies, new connections.

A step of a handshake computes for milliseconds and holds the interpreter's lock
meanwhile; decrypting a record of a body takes a tenth of one. Whoever opens
connections or sends large bodies over and over would slow every request down.
Hence one step at a time, in fair turns between addresses, and while there are
requests a rest after each. Handshakes of addresses that never get what they ask for
wait longer still (`app.server.fruitless`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from app.server.fruitless import Fruitless
from app.server.peers import Peer
from app.serving.fair import FairQueue
from app.serving.presence import Presence
from app.serving.rests import LATELY_NS

HANDSHAKE_REST: Final = 3
"""How much longer than a handshake's step the rest after it is while there are requests; the same
after accepting connections."""

LEAST_BODY_REST: Final = 1
"""Likewise for a part of a large body, while other tenants have requests: half of the time is
theirs. One tenant's bodies don't give way to its own requests, as these had better run together."""

MOST_BODY_REST: Final = 4
"""Of a tenant with many bodies at a time beside the others: 16 of 1 MB that come together are still
here in about a second."""

_SUCCESS: Final = b"HTTP/1.1 2"


def rest_end(started: float, ended: float, rest: float) -> float:
    """Gives the moment at which the next step may begin."""
    return ended + rest * (ended - started)


class Pacing:
    """Connections in the handshake or with a large body that have something to read.

    Args:
        places: most of them.
    """

    def __init__(self, places: int) -> None:
        self._presence = Presence(lately_ns=LATELY_NS)
        self._waiting: FairQueue[Peer] = FairQueue(places, places, 1)
        self._senders: dict[Peer, str] = {}
        """Whose bodies wait."""
        self._fruitless = Fruitless()
        self._due = 0.0
        self._is_busy = False

    def add(self, peer: Peer) -> bool:
        """Takes one in that doesn't wait already; False when there is no place."""
        # Behind a handshake that waits, bodies of the same address would wait too.
        if self._waiting.offer(peer, peer.host, not peer.connection.is_established) is not None:
            return False
        if (tenant := peer.connection.tenant) is not None:
            self._senders[peer] = tenant
            self._presence.came(tenant)
        return True

    def remove(self, peer: Peer, now: float) -> None:
        """Forgets one that was closed; one that doesn't wait is fine."""
        self._waiting.withdraw(peer, peer.host)
        self._forget_body(peer)
        if not peer.was_answered:
            self._fruitless.ended(peer.host, now)

    def answered(self, peer: Peer, chunks: Sequence[bytes]) -> None:
        """Notes an answer to a client that waited for it; one that says no doesn't count."""
        if chunks[0].startswith(_SUCCESS):
            peer.was_answered = True
            self._fruitless.answered(peer.host)

    def asked(self, tenant: str) -> None:
        """Notes a request."""
        self._presence.came(tenant)
        self._presence.left(tenant)

    def body_rest(self, tenant: str) -> float:
        """Gives how much longer than a step of the tenant's body the rest after it is.

        0 while no other tenant asks; the more, the more bodies and requests it has at a time beside
        the others.
        """
        if not self._presence.has_others(tenant):
            return 0
        return max(LEAST_BODY_REST, min(MOST_BODY_REST, self._presence.excess(tenant)))

    def take(self, now: float, *, is_busy: bool) -> Peer | None:
        """Gives the next one when it is time for it; `took` has to follow.

        Args:
            now: a monotonic clock, in seconds.
            is_busy: whether there are requests.
        """
        self._is_busy = self._is_busy or is_busy
        peer = self._waiting.take(lambda each: self._due_of(each) <= now)
        if peer is not None:
            self._waiting.done(peer.host)
            self._forget_body(peer)
            self._fruitless.stepped(peer.host, now)
        return peer

    def _forget_body(self, peer: Peer) -> None:
        tenant = self._senders.pop(peer, None)
        if tenant is not None:
            self._presence.left(tenant)

    def _due_of(self, peer: Peer) -> float:
        """When one that waits may go on."""
        if not self._is_busy or peer.connection.is_established:
            return self._due
        return max(self._due, self._fruitless.due(peer.host))

    def took(self, started: float, ended: float, rest: float = HANDSHAKE_REST) -> None:
        """Says how long the step took; the next one rests if there were requests since the last."""
        self._due = rest_end(started, ended, rest * self._is_busy)
        self._is_busy = False

    def patience_s(self, now: float) -> float | None:
        """Gives how long until the next step; None when nobody waits."""
        dues: list[float] = []

        def look(peer: Peer) -> bool:
            dues.append(self._due_of(peer))
            return False

        self._waiting.first(look)
        return max(0.0, min(dues) - now) if dues else None
