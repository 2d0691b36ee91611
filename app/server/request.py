"""A complete request on its way to a worker, and whose it is."""

from __future__ import annotations

import ipaddress
import time
from dataclasses import dataclass, field
from io import BytesIO
from typing import Final

from app.access.admission import OPEN_TENANT, Admission, Pass
from app.server.framing import Head
from app.serving.pool import Pool

EVERYBODY: Final = "open paths"
"""Whose requests are that nobody has to be known for: all of them share one client's part."""

_IPV6_BLOCK_BITS: Final = 64
"""What one customer of a provider has at the least (RFC 6177), and may take addresses from."""


def address_client(host: str) -> str:
    """Gives the client that a connection belongs to before it says who it is.

    That is an IPv4 address, or an IPv6 /64. No tenant of a policy can have such a name.
    """
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            block = ipaddress.ip_network((address, _IPV6_BLOCK_BITS), strict=False)
            return f"address {block.network_address}"
        address = address.ipv4_mapped
    return f"address {address}"


@dataclass(slots=True, eq=False)
class Request:
    """A complete request on its way to a worker.

    Attributes:
        head: checked.
        body: whole, at its start. `read()` of everything copies nothing.
        address: the client's host and port.
        entry: how it was let in.
        client: whose it is, as `app.serving.accounts` tells them apart: a tenant, or where
            everybody is let in alike an address.
        held_bytes: room that its body takes until the answer is there.
        abandoned: the client is gone, nobody will read the answer. Set by the event loop.
        submitted_ns: when it was passed on, on `time.perf_counter_ns`.
    """

    head: Head
    body: BytesIO
    address: tuple[str, int]
    entry: Pass
    client: str
    held_bytes: int = 0
    abandoned: bool = False
    submitted_ns: int = field(default_factory=time.perf_counter_ns)

    @property
    def admission(self) -> Admission | None:
        """Who asks, and what for; None where nobody has to say."""
        return self.entry.admission

    @property
    def missing_bytes(self) -> int:
        """What is still to come of the body, while it is being received."""
        return self.head.body_bytes - self.body.tell()

    def release(self, room: Pool) -> None:
        """Gives back what it takes of the room and of its tenant's quota; again does nothing."""
        room.give_back(self.client, self.held_bytes)
        self.held_bytes = 0
        self.entry.release()


def client_of(entry: Pass, connection_client: str) -> str:
    """Gives whose a request is.

    Args:
        entry: how it was let in.
        connection_client: `address_client` of its connection.
    """
    if entry.admission is None:
        return EVERYBODY
    is_open = entry.admission.tenant == OPEN_TENANT.name
    return connection_client if is_open else entry.admission.tenant
