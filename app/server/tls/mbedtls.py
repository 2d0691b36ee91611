"""TLS 1.2 on python-mbedtls 2.10.1, which is Mbed TLS 2.28.8.

The library's in-memory buffer is used, not its socket wrapper: that one spins
when a peer closes during the handshake, loses records and refuses more than
32 KiB. The buffer's `_handshake_state` and `_verified` have no public form;
tests pin what they say.
"""

from __future__ import annotations

import ctypes
import gc
import re
from collections.abc import Sequence
from typing import Any, Final

from mbedtls import _tls, x509
from mbedtls import tls as mbed
from mbedtls.exceptions import TLSError as LibraryError
from mbedtls.pk import ECC

from app.errors import ConfigError
from app.server.certificate import ServerIdentity
from app.server.tls.channel import PROTOCOLS, RECORD_BYTES, Channel, ChannelState
from app.server.tls.client_chain import ClientChain

SUITES: Final[Sequence[str]] = (
    "TLS-ECDHE-ECDSA-WITH-CHACHA20-POLY1305-SHA256",
    "TLS-ECDHE-ECDSA-WITH-AES-256-GCM-SHA384",
    "TLS-ECDHE-ECDSA-WITH-AES-128-GCM-SHA256",
)
"""Forward secrecy and authenticated encryption only, the server's preference first. ChaCha20 leads:
in this library it is 1.6 times as fast as AES-256-GCM, and it has no tables for a cache to leak."""

_PROTOCOLS: Final = tuple(name.encode() for name in PROTOCOLS)
"""Of the module, as the library keeps bare pointers to these bytes."""

_OUTGOING_BYTES: Final = 32 * 1024
_PEER_CLOSED: Final = 0x7880  # MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY
_ASKS: Final = bytes((3, 3, 3, 3, 1, 0, 1))
"""How mbedtls_ssl_config of 2.28.8 begins: versions, 1 for a server, 0 for a stream, 1 for
MBEDTLS_SSL_VERIFY_OPTIONAL."""
_VERIFY_NONE: Final = 0
_CURVES: Final = (ctypes.c_int * 5)(3, 4, 5, 9, 0)
"""P-256, P-384, P-521 and Curve25519 in Mbed TLS's numbers, the server's preference first; its own
is P-521, which takes three times as long. Of the module, as the library keeps a pointer."""
_PEM_BLOCK: Final = re.compile(
    r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\r?\n?", re.DOTALL
)


class MbedtlsEndpoint:
    """The server's side of TLS 1.2: certificate, key and suites; makes channels.

    With `client_ca_pem` the library asks for a client certificate and goes on whatever comes; the
    channel then refuses one that the library didn't verify. Without it none is asked for, and a
    client that sends one all the same is refused.

    Args:
        identity: certificate and ECDSA key.
        client_ca_pem: certificates that client certificates must lead to, if those count.

    Attributes:
        context: the library's, for channels.
        names_clients: whether client certificates are verified and count.

    Raises:
        ConfigError: the library refuses a certificate or the key.
    """

    def __init__(self, identity: ServerIdentity, client_ca_pem: bytes | None = None) -> None:
        self.names_clients = client_ca_pem is not None
        trusted = mbed.TrustStore()
        try:
            for certificate in _certificates(client_ca_pem or b""):
                trusted.add(certificate)  # its constructor would leave all but the first unlinked
            chain = _certificates(identity.certificate_pem)
            key = _key(chain[0], identity.private_key_pem)
            configuration = mbed.TLSConfiguration(
                validate_certificates=False,
                trust_store=trusted,
                certificate_chain=(chain, key),
                ciphers=tuple(SUITES),
                inner_protocols=_PROTOCOLS,
                lowest_supported_version=mbed.TLSVersion.TLSv1_2,
                highest_supported_version=mbed.TLSVersion.TLSv1_2,
            )
            self.context = mbed.ServerContext(configuration)
            _configure(self.context, asks=self.names_clients)
            self._owned = (chain, key, trusted)
        except (LibraryError, ValueError, IndexError) as error:
            raise ConfigError(
                "TLS certificate", [f"Mbed TLS can't use it or its key: {error}"]
            ) from error

    def channel(self) -> MbedtlsChannel:
        """Makes the channel of a new connection; it takes about 100 KiB."""
        return MbedtlsChannel(self)


def _configure(context: mbed.ServerContext, *, asks: bool) -> None:
    """Sets what the binding has no words for: `_CURVES`, and that no certificate is asked for.

    The library's structure lies in the binding's object, behind the head, a table and a pointer.
    """
    (configuration,) = (
        each for each in gc.get_referents(context) if type(each).__name__ == "MbedTLSConfiguration"
    )
    place = id(configuration) + object.__basicsize__ + 2 * ctypes.sizeof(ctypes.c_void_p)
    if ctypes.string_at(place, len(_ASKS)) != _ASKS:
        raise ValueError("this build of python-mbedtls isn't the one that the lock pins")
    library = ctypes.CDLL(_tls.__file__)
    library.mbedtls_ssl_conf_curves(ctypes.c_void_p(place), _CURVES)
    if not asks:
        library.mbedtls_ssl_conf_authmode(ctypes.c_void_p(place), _VERIFY_NONE)


def _key(certificate: x509.CRT, pem: bytes) -> ECC:
    """Reads an ECDSA key: RSA in this library has known leaks, and gets no more fixes."""
    if certificate.subject_public_key.name != b"EC":
        raise ValueError("the key must be P-256, P-384 or P-521; 'openssl' takes RSA too")
    return ECC.from_PEM(pem.decode())


def _certificates(pem: bytes) -> tuple[x509.CRT, ...]:
    return tuple(x509.CRT.from_PEM(block) for block in _PEM_BLOCK.findall(pem.decode("ascii")))


class MbedtlsChannel(Channel):
    """A channel on Mbed TLS.

    Ciphertext reaches the library one record's worth at a time, and only after
    it said that it needs more, which means that it has used all it was given:
    its buffer can't overflow and no decrypted record stays behind in it.

    Args:
        endpoint: its maker.
    """

    _errors = (LibraryError, BufferError, ValueError)

    def __init__(self, endpoint: MbedtlsEndpoint) -> None:
        super().__init__()
        # The library points to keys and certificates without owning them: they live as long as
        # the channel, which may be longer than the endpoint is in use.
        self._endpoint = endpoint
        # Any: the library's stubs say `bytes` for writable buffers and `int` for an enumeration.
        self._buffer: Any = endpoint.context.wrap_buffers()
        self._incoming = bytearray()
        self._outgoing: list[bytes] = []
        self._client_chain = ClientChain() if endpoint.names_clients else None

    def feed(self, ciphertext: bytes) -> None:
        """Takes bytes from the network."""
        self._incoming += ciphertext

    def take_ciphertext(self) -> bytes:
        """Gives, and forgets, the bytes that have to go out."""
        ciphertext = b"".join(self._outgoing)
        self._outgoing.clear()
        return ciphertext

    def _shake(self) -> bool:
        while self._buffer._handshake_state is not mbed.HandshakeStep.HANDSHAKE_OVER:
            try:
                self._buffer.do_handshake()
            except mbed.WantReadError:
                self._drain()
                if not self._give():
                    return False
            except mbed.WantWriteError:
                pass
            self._drain()
        return True

    def _client_certificate(self) -> bytes | None:
        """Refuses a client certificate that leads to none of the trusted ones.

        That the client holds its key is checked by the library in any case.
        """
        if self._client_chain is None:
            return None
        der: bytes | None = self._buffer.getpeercert(binary_form=True)
        if der and not self._buffer._verified:
            self._drain()
            self._outgoing.clear()  # the end of the handshake, which would look like success
            raise ValueError("the client's certificate isn't trusted")
        return der

    def _decrypt(self) -> bytes | None:
        scratch = memoryview(bytearray(RECORD_BYTES))
        while True:
            try:
                return bytes(scratch[: self._buffer.readinto(scratch, RECORD_BYTES)])
            except mbed.WantReadError:
                if not self._give():
                    self._drain()
                    return None
            except mbed.WantWriteError:
                self._drain()
            except LibraryError as error:
                if getattr(error, "err", None) != _PEER_CLOSED:
                    raise
                self._drain()
                return b""

    def _encrypt(self, plaintext: memoryview) -> None:
        for start in range(0, len(plaintext), RECORD_BYTES):
            self._buffer.write(plaintext[start : start + RECORD_BYTES])
            self._drain()

    def _say_goodbye(self) -> None:
        # It resets the session too, so the buffer isn't used again: the state is ENDED by now.
        self._buffer.shutdown()
        self._drain()

    def _give(self) -> bool:
        """Gives the library its next piece of ciphertext; False when there is none."""
        if not self._incoming:
            return False
        piece = bytes(self._incoming[:RECORD_BYTES])
        if self._client_chain is not None and self.state is ChannelState.HANDSHAKE:
            self._client_chain.feed(piece)
        self._buffer.receive_from_network(piece)
        del self._incoming[:RECORD_BYTES]
        return True

    def _drain(self) -> None:
        ciphertext = self._buffer.peek_outgoing(_OUTGOING_BYTES)
        if ciphertext:
            self._buffer.consume_outgoing(len(ciphertext))
            self._outgoing.append(ciphertext)

    def _give_up(self, error: Exception) -> str:
        # The library has reset the session: nothing that came is read any more.
        self._incoming.clear()
        self._drain()
        return super()._give_up(error)
