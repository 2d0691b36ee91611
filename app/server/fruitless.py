"""Addresses whose connections bring nothing.

A handshake costs the server milliseconds and its client nothing that counts:
whoever connects and leaves, before a request or before its answer, or only ever
asks for what it doesn't get, makes others wait. So an address whose connections
keep ending like that has its next handshakes wait ever longer, until a client
there gets what it asked for. Pure: time goes in.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ldexp
from typing import Final

FREE_ENDS: Final = 8
"""Connections that may end like that, one after another, before the next one waits."""

FIRST_WAIT_S: Final = 0.016
"""The wait after the next; it doubles with each."""

MOST_WAIT_S: Final = 1.0
"""A handshake has two costly steps: it still fits well into its timeout."""

FORGET_S: Final = 10.0
"""An address of which nothing was seen for so long starts anew."""


@dataclass(slots=True)
class _Address:
    ends: int
    seen: float


class Fruitless:
    """How long addresses' handshakes have to wait."""

    def __init__(self) -> None:
        self._addresses: dict[str, _Address] = {}

    def ended(self, host: str, now: float) -> None:
        """Notes that a connection ended that brought nothing."""
        if host not in self._addresses:
            self._forget(now)
        address = self._addresses.setdefault(host, _Address(0, now))
        address.ends += 1
        address.seen = now

    def stepped(self, host: str, now: float) -> None:
        """Notes a step of a handshake: the wait begins anew."""
        if host in self._addresses:
            self._addresses[host].seen = now

    def answered(self, host: str) -> None:
        """Notes that a client got what it asked for."""
        self._addresses.pop(host, None)

    def due(self, host: str) -> float:
        """Gives the moment from which on the address's next handshake may go on."""
        address = self._addresses.get(host)
        if address is None or address.ends <= FREE_ENDS:
            return 0.0
        doublings = min(address.ends - FREE_ENDS - 1, 16)
        return address.seen + min(ldexp(FIRST_WAIT_S, doublings), MOST_WAIT_S)

    def __len__(self) -> int:
        return len(self._addresses)

    def _forget(self, now: float) -> None:
        """Keeps only addresses that were seen lately, so that they don't pile up."""
        self._addresses = {
            host: each for host, each in self._addresses.items() if now - each.seen < FORGET_S
        }
