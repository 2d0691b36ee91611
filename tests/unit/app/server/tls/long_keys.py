"""RSA keys that take long to verify with, and certificates signed with them."""

from __future__ import annotations

import datetime
import functools
import math

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from tests.unit.app.server.clients import now


@functools.cache
def long_exponent_key(bits: int) -> rsa.RSAPrivateKey:
    """Makes a key whose public exponent is about as long as its modulus."""
    usual = rsa.generate_private_key(65537, bits).private_numbers()
    p, q = usual.p, usual.q
    order = (p - 1) * (q - 1) // math.gcd(p - 1, q - 1)
    d = 65539
    while math.gcd(d, order) != 1:
        d += 2
    numbers = rsa.RSAPrivateNumbers(
        p,
        q,
        d,
        d % (p - 1),
        d % (q - 1),
        pow(q, -1, p),
        rsa.RSAPublicNumbers(pow(d, -1, order), p * q),
    )
    return numbers.private_key(unsafe_skip_rsa_key_validation=True)


def long_exponent(bits: int) -> x509.Certificate:
    """Makes a self-signed certificate of such a key."""
    return self_signed(long_exponent_key(bits))


def self_signed(key: rsa.RSAPrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "client")])
    day = datetime.timedelta(days=1)
    return (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now() - day, now() + day)
        .add_extension(x509.BasicConstraints(True, None), critical=True)
        .sign(key, hashes.SHA256())
    )
