"""A channel and an OpenSSL client with a wire between them."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from app.server.certificate import ServerIdentity
from app.server.tls.channel import ChannelState, Endpoint
from tests.unit.app.server.clients import client_context, endpoint


@dataclass
class Wire:
    """Which server, and the newest version that clients of it speak."""

    library: str
    newest: ssl.TLSVersion

    def __str__(self) -> str:
        return f"{self.library} {self.newest.name}"


WIRES = (
    Wire("mbedtls", ssl.TLSVersion.TLSv1_2),
    Wire("openssl", ssl.TLSVersion.TLSv1_2),
    Wire("openssl", ssl.TLSVersion.TLSv1_3),
)
WIRE = WIRES[0]
"""The one in use; the fixture `wire` changes it."""

Cut = Callable[[bytes], list[bytes]]


def whole(data: bytes) -> list[bytes]:
    return [data] if data else []


class Pair:
    """A channel and an OpenSSL client with a wire between them."""

    def __init__(
        self,
        context: ssl.SSLContext | None = None,
        *,
        server: ServerIdentity | None = None,
        tls: Endpoint | None = None,
        cut: Cut = whole,
        client_ca_pem: bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> None:
        context = context or client_context()
        if context.maximum_version == ssl.TLSVersion.MAXIMUM_SUPPORTED:
            context.maximum_version = WIRE.newest
        self.server = (tls or endpoint(server, client_ca_pem)).channel()
        self.to_client, self.from_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = context.wrap_bio(
            self.to_client, self.from_client, server_hostname="localhost", session=session
        )
        self.cut = cut

    def shake(self) -> None:
        done = False
        for _ in range(10):
            if not done:
                done = self._client_step()
            for piece in self.cut(self.from_client.read()):
                self.server.feed(piece)
                self.server.handshake()
            self.to_client.write(self.server.take_ciphertext())
            if done and self.server.state is ChannelState.OPEN:
                return
        raise AssertionError("the handshake doesn't end")

    def _client_step(self) -> bool:
        try:
            self.client.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def up(self, data: bytes) -> bytes:
        """Sends to the server; gives what it decrypts."""
        self.client.write(data)
        received = []
        for piece in self.cut(self.from_client.read()):
            self.server.feed(piece)
            received.append(self.server.read())
        return b"".join(received)

    def down(self, data: bytes) -> bytes:
        """Sends to the client; gives what it decrypts."""
        self.server.write(data)
        self.to_client.write(self.server.take_ciphertext())
        received = bytearray()
        while len(received) < len(data):
            received += self.client.read(1 << 20)
        return bytes(received)


def open_pair(context: ssl.SSLContext | None = None, **options: Any) -> Pair:
    """Makes one whose handshake is over."""
    pair = Pair(context, **options)
    pair.shake()
    return pair
