"""The seam between the event loop and a TLS library: ciphertext in, plaintext out, no socket."""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Callable
from typing import Final, Protocol

from app.server.certificate import ServerIdentity

RECORD_BYTES: Final = 16 * 1024
"""Plaintext of one TLS record: RFC 5246 §6.2.1, RFC 8446 §5.1."""

PROTOCOLS: Final = ("http/1.1",)
"""What is offered by ALPN (RFC 7301)."""


class TlsError(ConnectionError):
    """The TLS connection failed for good; the message holds no byte of the peer."""


class ChannelState(enum.Enum):
    """How far a channel is; it moves downwards only."""

    HANDSHAKE = enum.auto()
    OPEN = enum.auto()
    ENDED = enum.auto()
    """The peer said that it won't send any more, or this side said so."""
    FAILED = enum.auto()


class Channel(Protocol):
    """One TLS connection of a server, seen from the event loop. Not thread safe.

    No method blocks. After a TlsError only `take_ciphertext` is of use: it may
    hold the alert that tells the peer why.
    """

    @property
    def state(self) -> ChannelState:
        """How far the connection is."""

    @property
    def peer_fingerprint(self) -> str | None:
        """SHA-256 of the client certificate's DER form, 64 small hexadecimal digits.

        None without one, and before the client has proved that it holds the private key.
        """

    def feed(self, ciphertext: bytes) -> None:
        """Takes bytes from the network, any number; `handshake` and `read` work on them."""

    def handshake(self) -> bool:
        """Goes on with the handshake as far as the fed bytes allow; True once it is over.

        Raises:
            TlsError: it failed, now or earlier; it is never tried again.
        """

    def read(self) -> bytes:
        """Gives all plaintext that the fed bytes hold, b"" when they hold none.

        Raises:
            TlsError: a record is no valid record.
        """

    def write(self, plaintext: bytes | memoryview) -> None:
        """Encrypts; the caller bounds the size, `take_ciphertext` gives the result.

        Raises:
            TlsError: the connection isn't open.
        """

    def take_ciphertext(self) -> bytes:
        """Gives, and forgets, the bytes that have to go out."""

    def close_notify(self) -> None:
        """Says goodbye when the connection is still open; nothing can be written afterwards."""


class Endpoint(Protocol):
    """The server's side of TLS before there is a connection."""

    def channel(self) -> Channel:
        """Makes the channel of a new connection."""


MakeEndpoint = Callable[[ServerIdentity, bytes | None], Endpoint]
"""Makes a library's endpoint of certificate, key and, where client certificates are asked for, of
PEM certificates that they must lead to. It raises ConfigError for what the library refuses."""


def fingerprint(der: bytes | None) -> str | None:
    """Gives what `Channel.peer_fingerprint` says of a client certificate's DER form."""
    return hashlib.sha256(der).hexdigest() if der else None
