"""The seam between the event loop and a TLS library: ciphertext in, plaintext out, no socket."""

from __future__ import annotations

import enum
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ClassVar, Final, Protocol

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


class Channel(ABC):
    """One TLS connection of a server, seen from the event loop. Not thread safe.

    No method blocks. After a TlsError only `take_ciphertext` is of use: it may
    hold the alert that tells the peer why. The library does what is abstract here.

    Attributes:
        state: how far the connection is.
        peer_fingerprint: SHA-256 of the client certificate's DER form, 64 small hexadecimal
            digits. None without one, and before the client has proved that it holds the private
            key.
    """

    _errors: ClassVar[tuple[type[Exception], ...]]
    """What the library raises."""

    def __init__(self) -> None:
        self.state = ChannelState.HANDSHAKE
        self.peer_fingerprint: str | None = None
        self._failure = ""

    @abstractmethod
    def feed(self, ciphertext: bytes) -> None:
        """Takes bytes from the network, any number; `handshake` and `read` work on them."""

    @abstractmethod
    def take_ciphertext(self) -> bytes:
        """Gives, and forgets, the bytes that have to go out."""

    def handshake(self) -> bool:
        """Goes on with the handshake as far as the fed bytes allow; True once it is over.

        Raises:
            TlsError: it failed, now or earlier; it is never tried again.
        """
        self._check()
        with self._failing():
            if self.state is ChannelState.HANDSHAKE and self._shake():
                der = self._client_certificate()
                self.peer_fingerprint = hashlib.sha256(der).hexdigest() if der else None
                self.state = ChannelState.OPEN
        return self.state is not ChannelState.HANDSHAKE

    def read(self) -> bytes:
        """Gives all plaintext that the fed bytes hold, b"" when they hold none.

        Raises:
            TlsError: a record is no valid record.
        """
        self._check()
        pieces: list[bytes] = []
        with self._failing():
            while self.state is ChannelState.OPEN and (piece := self._decrypt()) is not None:
                if not piece:
                    self.state = ChannelState.ENDED
                pieces.append(piece)
        return b"".join(pieces)

    def write(self, plaintext: bytes | memoryview) -> None:
        """Encrypts; the caller bounds the size, `take_ciphertext` gives the result.

        Raises:
            TlsError: the connection isn't open.
        """
        self._check()
        if self.state is not ChannelState.OPEN:
            raise TlsError(f"can't write to a TLS connection in the state {self.state.name}")
        with self._failing():
            self._encrypt(memoryview(plaintext))

    def close_notify(self) -> None:
        """Says goodbye when the connection is still open; nothing can be written afterwards."""
        if self.state is ChannelState.OPEN:
            self.state = ChannelState.ENDED
            self._say_goodbye()

    @abstractmethod
    def _shake(self) -> bool:
        """Goes on with the handshake; True once it is over."""

    @abstractmethod
    def _client_certificate(self) -> bytes | None:
        """Gives the DER form of the client's certificate, which is trusted, or None."""

    @abstractmethod
    def _decrypt(self) -> bytes | None:
        """Gives the next plaintext, b"" for the peer's goodbye, None where bytes are missing."""

    @abstractmethod
    def _encrypt(self, plaintext: memoryview) -> None: ...

    @abstractmethod
    def _say_goodbye(self) -> None: ...

    def _check(self) -> None:
        if self.state is ChannelState.FAILED:
            raise TlsError(self._failure)

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Ends the connection for good when the library raises an error."""
        try:
            yield
        except self._errors as error:
            self.state, self._failure = ChannelState.FAILED, self._give_up(error)
            raise TlsError(self._failure) from error

    def _give_up(self, error: Exception) -> str:
        """Ends the library's part after an error; says why, and nothing of what came."""
        return str(error) or type(error).__name__


class Endpoint(Protocol):
    """The server's side of TLS before there is a connection."""

    def channel(self) -> Channel:
        """Makes the channel of a new connection."""


MakeEndpoint = Callable[[ServerIdentity, bytes | None], Endpoint]
"""Makes a library's endpoint of certificate, key and, where client certificates are asked for, of
PEM certificates that they must lead to. It raises ConfigError for what the library refuses."""
