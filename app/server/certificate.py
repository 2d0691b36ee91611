"""The server's certificate and private key: made here at start, or read from files."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from app.errors import ConfigError
from app.files import WrongFileError, read_file

CLOCK_SKEW: Final = datetime.timedelta(minutes=5)
"""How far a made certificate reaches back: an enclave's clock is the host's and may be ahead."""

MIN_RSA_BITS: Final = 2048
"""Shortest RSA key that common clients accept."""

MAX_CLIENT_RSA_BITS: Final = 4096
MAX_CLIENT_EXPONENT_BITS: Final = 32
"""Longest RSA keys of clients and of those that certify them: verifying takes the event loop 0.2 ms
with the usual exponent of 17 bits, and seconds with 8192 bits and an exponent as long as that."""

MAX_PEM_BYTES: Final = 256 * 1024
"""Largest PEM file: a chain of a few certificates has about 8 KiB."""

_CURVES: Final = ("secp256r1", "secp384r1", "secp521r1")

_SIGNS_HANDSHAKES: Final = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)

_Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True, slots=True)
class ServerIdentity:
    """A certificate with its private key.

    Attributes:
        certificate_pem: the server's certificate first, then intermediate ones.
        private_key_pem: its key as unencrypted PKCS #8; hidden from repr, never to be logged.
        fingerprint: "sha256 AB:CD:…" over the DER form of the first certificate.
    """

    certificate_pem: bytes
    private_key_pem: bytes = field(repr=False)
    fingerprint: str


def make_identity(
    common_name: str,
    organization: str,
    *,
    dns_names: Sequence[str],
    addresses: Sequence[str],
    valid_days: int,
    now: datetime.datetime,
) -> ServerIdentity:
    """Makes a P-256 key and a self-signed certificate; the key exists in this process only.

    Clients verify by trusting exactly this certificate, as `curl --cacert` does. It can't
    sign others.

    Args:
        common_name: the subject's name, 1 to 64 characters.
        organization: the subject's organisation, 1 to 64 characters.
        dns_names: host names that clients connect to.
        addresses: IP addresses that clients connect to.
        valid_days: days from now on.
        now: with a time zone.

    Raises:
        ConfigError: a name or address that a certificate can't hold.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    try:
        names: list[x509.GeneralName] = [x509.DNSName(name) for name in dns_names]
        names += [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
                x509.NameAttribute(NameOID.COMMON_NAME, common_name),
            ]
        )
    except ValueError as error:
        raise ConfigError("TLS certificate", [str(error)]) from error
    if not names or valid_days < 1:
        raise ConfigError("TLS certificate", ["needs a DNS name or address and one day or more"])
    public = key.public_key()
    builder = x509.CertificateBuilder(
        subject_name=subject,
        issuer_name=subject,
        public_key=public,
        serial_number=x509.random_serial_number(),
        not_valid_before=now - CLOCK_SKEW,
        not_valid_after=now + datetime.timedelta(days=valid_days),
    )
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_SIGNS_HANDSHAKES, True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (x509.SubjectAlternativeName(names), False),
        (x509.SubjectKeyIdentifier.from_public_key(public), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(public), False),
    ]
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return _identity([builder.sign(key, hashes.SHA256())], key)


def load_identity(certificate_path: Path, key_path: Path, now: datetime.datetime) -> ServerIdentity:
    """Reads a certificate, with intermediate ones if any, and its private key from PEM files.

    Args:
        certificate_path: the server's certificate first.
        key_path: its unencrypted key, P-256, P-384, P-521 or RSA of 2048 bits or more.
        now: with a time zone.

    Raises:
        ConfigError: with every problem found and the file it is in.
    """
    problems: list[str] = []
    chain = _read_chain(certificate_path, problems)
    key = _read_key(key_path, problems)
    if chain and now > chain[0].not_valid_after_utc:
        end = chain[0].not_valid_after_utc.isoformat()
        problems.append(f"{certificate_path}: the certificate expired at {end}; renew it")
    if chain and now < chain[0].not_valid_before_utc:
        start = chain[0].not_valid_before_utc.isoformat()
        problems.append(f"{certificate_path}: the certificate isn't valid before {start}")
    if chain and key is not None and chain[0].public_key() != key.public_key():
        problems.append(f"{key_path}: isn't the key of the certificate in {certificate_path}")
    if problems or key is None:
        raise ConfigError("TLS certificate and key", problems)
    return _identity(chain, key)


def load_client_ca(path: Path) -> bytes:
    """Reads the certificates that clients' certificates must lead to: a PEM file of one or more.

    Raises:
        ConfigError: it can't be read, holds something else or keys that clients may not have.
    """
    problems: list[str] = []
    chain = _read_chain(path, problems)
    for certificate in chain:
        if problem := client_key_problem(certificate.public_key()):
            problems.append(f"{path}: {problem}")
    if problems:
        raise ConfigError("client certificates' CA", problems)
    return _pem(chain)


def client_key_problem(key: CertificatePublicKeyTypes) -> str | None:
    """Says why a certificate's key isn't used to verify a client, or None."""
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES:
        return None
    if (
        isinstance(key, rsa.RSAPublicKey)
        and MIN_RSA_BITS <= key.key_size <= MAX_CLIENT_RSA_BITS
        and key.public_numbers().e.bit_length() <= MAX_CLIENT_EXPONENT_BITS
    ):
        return None
    return (
        f"the key must be P-256, P-384, P-521 or RSA of {MIN_RSA_BITS} to {MAX_CLIENT_RSA_BITS} "
        f"bits with an exponent of at most {MAX_CLIENT_EXPONENT_BITS} bits"
    )


def _identity(chain: Sequence[x509.Certificate], key: _Key) -> ServerIdentity:
    return ServerIdentity(
        certificate_pem=_pem(chain),
        private_key_pem=key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        fingerprint="sha256 " + chain[0].fingerprint(hashes.SHA256()).hex(":").upper(),
    )


def _pem(chain: Sequence[x509.Certificate]) -> bytes:
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in chain)


def _read_pem(path: Path, problems: list[str]) -> bytes | None:
    try:
        # While it is looked at, in the event loop, every client waits.
        data = read_file(path, MAX_PEM_BYTES, may_be_link=True)
    except (WrongFileError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        problems.append(f"{path}: can't be read: {reason}")
        return None
    if b"-----BEGIN " not in data:
        problems.append(f"{path}: isn't a PEM file of at most {MAX_PEM_BYTES} bytes")
        return None
    return data


def _read_chain(path: Path, problems: list[str]) -> list[x509.Certificate]:
    data = _read_pem(path, problems)
    if data is None:
        return []
    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError:
        problems.append(f"{path}: holds no valid PEM certificate")
        return []


def _read_key(path: Path, problems: list[str]) -> _Key | None:
    data = _read_pem(path, problems)
    if data is None:
        return None
    try:
        key = load_pem_private_key(data, password=None)
    except TypeError:
        problem = "the key is encrypted; give it unencrypted"
    except ValueError:
        problem = "holds no valid PEM private key"
    else:
        if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in _CURVES:
            return key
        if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= MIN_RSA_BITS:
            return key
        problem = f"the key must be P-256, P-384, P-521 or RSA of {MIN_RSA_BITS} bits or more"
    problems.append(f"{path}: {problem}")
    return None
