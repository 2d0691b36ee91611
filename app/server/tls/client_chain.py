"""Looks at the certificates of a TLS 1.2 client before Mbed TLS does.

Until ChangeCipherSpec a client's messages are readable (RFC 5246 §7.4). Mbed TLS verifies with
whatever key a certificate brings, and one verification with a long RSA key takes seconds of the
event loop. So the keys are looked at first, and here no signature is computed.
"""

from __future__ import annotations

from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from app.server.certificate import client_key_problem

MAX_CERTIFICATES: Final = 4
"""Longest chain: the client's certificate and three that lead to the trusted one."""

_CHANGE_CIPHER_SPEC, _ALERT, _HANDSHAKE = 20, 21, 22
_CERTIFICATE: Final = 11
_RECORD_HEADER, _MESSAGE_HEADER, _LENGTH = 5, 4, 3
_MAX_BYTES: Final = 1 << 14
"""Of one record, and of one handshake message: what Mbed TLS has room for."""


class ClientChain:
    """Reads a client's records until it encrypts, in pieces of any size. Holds 32 KiB at most."""

    def __init__(self) -> None:
        self._records = bytearray()
        self._messages = bytearray()
        self._is_over = False

    def feed(self, ciphertext: bytes) -> None:
        """Takes what Mbed TLS is given next; it may only be given that if this returns.

        Raises:
            ValueError: no record of a handshake, or certificates that aren't to be verified.
        """
        if self._is_over:
            return
        self._records += ciphertext
        while not self._is_over and len(self._records) >= _RECORD_HEADER:
            kind, size = self._records[0], int.from_bytes(self._records[3:_RECORD_HEADER], "big")
            if kind not in (_CHANGE_CIPHER_SPEC, _ALERT, _HANDSHAKE) or size > _MAX_BYTES:
                raise ValueError("not a record of a handshake")
            end = _RECORD_HEADER + size
            if len(self._records) < end:
                return
            self._is_over = kind == _CHANGE_CIPHER_SPEC
            if kind == _HANDSHAKE:
                self._take(self._records[_RECORD_HEADER:end])
            del self._records[:end]

    def _take(self, fragment: bytearray) -> None:
        self._messages += fragment
        while len(self._messages) >= _MESSAGE_HEADER:
            size = int.from_bytes(self._messages[1:_MESSAGE_HEADER], "big")
            if size > _MAX_BYTES:
                raise ValueError("a handshake message is too long")
            end = _MESSAGE_HEADER + size
            if len(self._messages) < end:
                return
            if self._messages[0] == _CERTIFICATE:
                _check_chain(bytes(self._messages[_MESSAGE_HEADER:end]))
            del self._messages[:end]


def _check_chain(body: bytes) -> None:
    """Looks at the keys in a Certificate message: RFC 5246 §7.4.2."""
    total, rest = int.from_bytes(body[:_LENGTH], "big"), body[_LENGTH:]
    if len(body) < _LENGTH or total != len(rest):
        raise ValueError("the client's certificates have a wrong length")
    certificates = 0
    while rest:
        end = _LENGTH + int.from_bytes(rest[:_LENGTH], "big")
        certificates += 1
        if len(rest) < end or certificates > MAX_CERTIFICATES:
            raise ValueError("the client's certificates are cut off or too many")
        try:
            key = x509.load_der_x509_certificate(rest[_LENGTH:end]).public_key()
        except (ValueError, UnsupportedAlgorithm) as error:
            raise ValueError("a certificate of the client can't be read") from error
        if problem := client_key_problem(key):
            raise ValueError(f"a certificate of the client: {problem}")
        rest = rest[end:]
