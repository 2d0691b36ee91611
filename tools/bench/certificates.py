"""Client certificates whose signatures are as dear to check as RSA allows."""

from __future__ import annotations

import functools
from datetime import UTC, datetime, timedelta
from math import gcd
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

CERTIFICATES: Final = 4
_FACTORS: Final = (4423, 3217)
"""Exponents of two Mersenne primes: a modulus of 7,640 bits without a search for primes."""

_LEAST_PRIVATE: Final = 65539
_NAME: Final = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "anybody")])


@functools.cache
def slow_chain() -> bytes:
    """Makes certificates that sign one another, and their key, as PEM.

    The private exponent is small and the public one has thousands of bits: whoever checks a
    signature has thousands of multiplications more to do than with an ordinary key.
    """
    key = _key()
    issued = [_certificate(key, number) for number in range(1, CERTIFICATES + 1)]
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return b"".join(each.public_bytes(Encoding.PEM) for each in issued) + private


def _key() -> rsa.RSAPrivateKey:
    p, q = ((1 << exponent) - 1 for exponent in _FACTORS)
    order = (p - 1) * (q - 1) // gcd(p - 1, q - 1)
    private = next(d for d in range(_LEAST_PRIVATE, order, 2) if gcd(d, order) == 1)
    public = rsa.RSAPublicNumbers(pow(private, -1, order), p * q)
    numbers = rsa.RSAPrivateNumbers(
        p, q, private, private % (p - 1), private % (q - 1), pow(q, -1, p), public
    )
    return numbers.private_key(unsafe_skip_rsa_key_validation=True)


def _certificate(key: rsa.RSAPrivateKey, number: int) -> x509.Certificate:
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(
        issuer_name=_NAME,
        subject_name=_NAME,
        public_key=key.public_key(),
        serial_number=number,
        not_valid_before=now - timedelta(days=1),
        not_valid_after=now + timedelta(days=30),
    )
    is_authority = x509.BasicConstraints(ca=True, path_length=None)
    return builder.add_extension(is_authority, critical=True).sign(key, hashes.SHA256())
