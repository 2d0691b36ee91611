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
from app.server.tls.channel import PROTOCOLS, RECORD_BYTES, Channel

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


class OpensslChannel(Channel):
    """A channel on OpenSSL's memory buffers."""

    _errors = (ssl.SSLError,)

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__()
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    def feed(self, ciphertext: bytes) -> None:
        """Takes bytes from the network."""
        self._incoming.write(ciphertext)

    def take_ciphertext(self) -> bytes:
        """Gives, and forgets, the bytes that have to go out."""
        return self._outgoing.read()

    def _shake(self) -> bool:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def _client_certificate(self) -> bytes | None:
        return self._tls.getpeercert(binary_form=True)

    def _decrypt(self) -> bytes | None:
        try:
            return self._tls.read(RECORD_BYTES)
        except ssl.SSLWantReadError:
            return None
        except ssl.SSLZeroReturnError:
            return b""

    def _encrypt(self, plaintext: memoryview) -> None:
        while plaintext:
            plaintext = plaintext[self._tls.write(plaintext) :]

    def _say_goodbye(self) -> None:
        with suppress(ssl.SSLError):  # it would like to wait for the other side's goodbye
            self._tls.unwrap()

    def _give_up(self, error: Exception) -> str:
        # OpenSSL's own text names what was wrong and quotes nothing.
        return getattr(error, "reason", None) or type(error).__name__
