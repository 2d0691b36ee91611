"""What the transport has seen so far, as plain counters that others render.

The event loop's thread alone writes them. Other threads read copies, which may
be a request behind one another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

TRANSPORT: Final = "cloister.transport"
"""WSGI environment key of a function without arguments that gives a copy of the counters."""

REFUSALS: Final = {
    401: "credentials",
    403: "right",
    404: "model",
    413: "body",
    429: "quota",
    503: "busy",
}
"""Why a request was turned away before a worker got it, by the status of the answer."""

_STATUS: Final = slice(len(b"HTTP/1.1 "), len(b"HTTP/1.1 200"))


@dataclass(slots=True)
class TransportCounters:
    """Counters since the start, and the state at the time of a copy.

    Attributes:
        accepted: connections that got a place.
        unplaced: connections closed at once, as there was no place for them.
        handshakes: TLS handshakes that were completed.
        handshake_failures: those that failed, took too long or had to make room for others.
        refusals: requests turned away before a worker got them, for each of `REFUSALS`.
        answers: answers by status.
        connections: open now.
        working: requests that a worker has or that wait for one, now.
        queued: requests that wait for a worker, now.
        body_bytes: room taken by request bodies, now.
    """

    accepted: int = 0
    unplaced: int = 0
    handshakes: int = 0
    handshake_failures: int = 0
    refusals: dict[str, int] = field(default_factory=lambda: dict.fromkeys(REFUSALS.values(), 0))
    answers: dict[int, int] = field(default_factory=dict)
    connections: int = 0
    working: int = 0
    queued: int = 0
    body_bytes: int = 0

    def refused(self, status: int) -> None:
        """Counts a request that was turned away."""
        self.refusals[REFUSALS[status]] += 1

    def answered(self, chunks: Sequence[bytes]) -> None:
        """Counts an answer by the status in its first line, which this side has made."""
        if chunks and chunks[0][_STATUS].isdigit():
            status = int(chunks[0][_STATUS])
            self.answers[status] = self.answers.get(status, 0) + 1
