"""What clients may take of the transport, and how much of it goes at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from app import limits as default

READ_BYTES: Final = 64 * default.KIB
"""Most ciphertext taken from a socket at a time."""

STEP_BYTES: Final = 16 * default.KIB
"""The same of a large body while others' requests run, which decrypting a TLS record stops for
0.1 ms."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportLimits:
    """The limits that the transport keeps: those of `app.limits`; tests use smaller ones."""

    max_head_bytes: int = default.MAX_HEAD_BYTES
    max_body_bytes: int = default.MAX_BODY_BYTES
    max_buffered_bytes: int = default.MAX_BUFFERED_BYTES
    max_connections: int = default.MAX_CONNECTIONS
    max_connections_per_address: int = default.MAX_CONNECTIONS_PER_ADDRESS
    max_handshakes: int = default.MAX_HANDSHAKES
    max_queued_requests: int = default.MAX_QUEUED_REQUESTS
    max_skipped_bytes: int = default.MAX_SKIPPED_BYTES
    min_body_bytes_per_s: int = default.MIN_BODY_BYTES_PER_S
    handshake_timeout_s: float = default.HANDSHAKE_TIMEOUT_S
    head_timeout_s: float = default.HEAD_TIMEOUT_S
    body_timeout_s: float = default.BODY_TIMEOUT_S
    room_timeout_s: float = default.ROOM_TIMEOUT_S
    response_timeout_s: float = default.RESPONSE_TIMEOUT_S
    keep_alive_s: float = default.KEEP_ALIVE_S
    shutdown_timeout_s: float = default.SHUTDOWN_TIMEOUT_S
    linger_s: float = default.LINGER_S
