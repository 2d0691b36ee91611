"""TLS 1.2 and 1.3 on the standard library's ssl, which is OpenSSL."""

from __future__ import annotations

import secrets
import ssl
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization

from app.errors import ConfigError
from app.server.certificate import ServerIdentity
from app.server.tls.channel import PROTOCOLS, RECORD_BYTES, ChannelState, TlsError, fingerprint

SUITES: Final = (
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "ECDHE-RSA-AES128-GCM-SHA256",
)
"""Those of TLS 1.2; all that TLS 1.3 has are of this kind. AES leads: where there is SGX there are
AES instructions, and this library uses them."""

_SECURITY_LEVEL: Final = "@SECLEVEL=2"
"""112 bits: no SHA-1 in certificates and no RSA key below 2048 bits, from clients either."""


class OpensslEndpoint:
    """The server's side of TLS 1.2 and 1.3: certificate, key and suites; makes channels.

    Tickets let a client resume without a certificate's signature. Their keys live in this object
    alone; in TLS 1.2 whoever had them could read what was said under them, so an endpoint
    should be replaced from time to time.

    Args:
        identity: certificate and key.
        client_ca_pem: certificates that client certificates must lead to, if those count.

    Raises:
        ConfigError: the library refuses a certificate or the key.
    """

    def __init__(self, identity: ServerIdentity, client_ca_pem: bytes | None = None) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
        context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
        context.set_ciphers(":".join((*SUITES, _SECURITY_LEVEL)))
        context.set_alpn_protocols(PROTOCOLS)
        try:
            _load_identity(context, identity)
            if client_ca_pem is not None:
                context.load_verify_locations(cadata=client_ca_pem.decode("ascii"))
                context.verify_mode = ssl.CERT_OPTIONAL
        except (OSError, ValueError) as error:
            raise ConfigError(
                "TLS certificate", [f"OpenSSL can't use it or its key: {error}"]
            ) from error
        self._context = context

    def channel(self) -> OpensslChannel:
        """Makes the channel of a new connection."""
        return OpensslChannel(self._context)


def _load_identity(context: ssl.SSLContext, identity: ServerIdentity) -> None:
    """Loads certificate and key by way of a file, as the library takes them from nowhere else.

    In the file the key is encrypted under a password that is only ever in memory.
    """
    password = secrets.token_hex(32)
    # The check of an RSA key takes 0.1 s of the event loop; whoever made the identity has done it.
    key = serialization.load_pem_private_key(
        identity.private_key_pem, password=None, unsafe_skip_rsa_key_validation=True
    )
    encrypted = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(password.encode()),
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "identity.pem"
        file.write_bytes(identity.certificate_pem + encrypted)
        context.load_cert_chain(file, password=password)


class OpensslChannel:
    """A `Channel` on OpenSSL's memory buffers."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._state = ChannelState.HANDSHAKE
        self._failure = ""
        self._peer_fingerprint: str | None = None

    @property
    def state(self) -> ChannelState:
        """How far the connection is."""
        return self._state

    @property
    def peer_fingerprint(self) -> str | None:
        """Which certificate the client has; see `Channel.peer_fingerprint`."""
        return self._peer_fingerprint

    def feed(self, ciphertext: bytes) -> None:
        """Takes bytes from the network; see `Channel.feed`."""
        self._incoming.write(ciphertext)

    def handshake(self) -> bool:
        """Goes on with the handshake; see `Channel.handshake`."""
        self._check()
        if self._state is not ChannelState.HANDSHAKE:
            return True
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError as error:
            raise self._fail(error) from error
        self._peer_fingerprint = fingerprint(self._tls.getpeercert(binary_form=True))
        self._state = ChannelState.OPEN
        return True

    def read(self) -> bytes:
        """Gives all plaintext at hand; see `Channel.read`."""
        self._check()
        pieces: list[bytes] = []
        while self._state is ChannelState.OPEN:
            try:
                piece = self._tls.read(RECORD_BYTES)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLZeroReturnError:
                piece = b""
            except ssl.SSLError as error:
                raise self._fail(error) from error
            if not piece:
                self._state = ChannelState.ENDED
            pieces.append(piece)
        return b"".join(pieces)

    def write(self, plaintext: bytes | memoryview) -> None:
        """Encrypts; see `Channel.write`."""
        self._check()
        if self._state is not ChannelState.OPEN:
            raise TlsError(f"can't write to a TLS connection in the state {self._state.name}")
        view = memoryview(plaintext)
        while view:
            try:
                view = view[self._tls.write(view) :]
            except ssl.SSLError as error:
                raise self._fail(error) from error

    def take_ciphertext(self) -> bytes:
        """Gives what has to go out; see `Channel.take_ciphertext`."""
        return self._outgoing.read()

    def close_notify(self) -> None:
        """Says goodbye; see `Channel.close_notify`."""
        if self._state is ChannelState.OPEN:
            self._state = ChannelState.ENDED
            with suppress(ssl.SSLError):  # it would like to wait for the other side's goodbye
                self._tls.unwrap()

    def _check(self) -> None:
        if self._state is ChannelState.FAILED:
            raise TlsError(self._failure)

    def _fail(self, error: ssl.SSLError) -> TlsError:
        """Remembers a failure; OpenSSL's own text names what was wrong and quotes nothing."""
        self._state = ChannelState.FAILED
        self._failure = error.reason or type(error).__name__
        return TlsError(self._failure)
