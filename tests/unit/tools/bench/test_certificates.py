"""Certificates that are dear to check are ones that a client can show."""

from __future__ import annotations

import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from tools.bench.certificates import CERTIFICATES, slow_chain

LARGEST_BITS = 8192
"""What Mbed TLS can compute with."""


def test_exponents_have_thousands_of_bits() -> None:
    issued = x509.load_pem_x509_certificates(slow_chain())
    assert len(issued) == len({each.serial_number for each in issued}) == CERTIFICATES
    for each in issued:
        key = each.public_key()
        assert isinstance(key, RSAPublicKey)
        assert 7000 < key.key_size <= LARGEST_BITS
        assert key.public_numbers().e.bit_length() > 7000, "65537 has 17"


def test_a_client_can_use_them(tmp_path: Path) -> None:
    path = tmp_path / "chain.pem"
    path.write_bytes(slow_chain())
    ssl.create_default_context().load_cert_chain(path)
