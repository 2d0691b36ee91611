"""Certificates: made ones verify where they should, bad files are named with their reason."""

from __future__ import annotations

import datetime
import ssl
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from app.errors import ConfigError
from app.server.certificate import ServerIdentity, load_client_ca, load_identity, make_identity
from tests.unit.app.server.clients import identity, now, rsa_identity

DAY = datetime.timedelta(days=1)


def test_a_made_certificate_says_what_was_asked() -> None:
    moment = now().replace(microsecond=0)
    made = make_identity(
        "box",
        "Org",
        dns_names=["box.example", "localhost"],
        addresses=["127.0.0.1", "::1"],
        valid_days=3,
        now=moment,
    )
    certificate = x509.load_pem_x509_certificate(made.certificate_pem)
    assert certificate.subject.rfc4514_string() == "CN=box,O=Org"
    assert certificate.not_valid_after_utc == moment + 3 * DAY
    assert certificate.not_valid_before_utc < moment
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["box.example", "localhost"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert not constraints.value.ca
    assert isinstance(certificate.public_key(), ec.EllipticCurvePublicKey)


def test_every_certificate_has_its_own_key() -> None:
    first, second = (
        make_identity("a", "b", dns_names=["c"], addresses=[], valid_days=1, now=now())
        for _ in range(2)
    )
    assert first.private_key_pem != second.private_key_pem
    assert first.fingerprint != second.fingerprint


def test_the_key_is_never_shown() -> None:
    body = identity().private_key_pem.decode().splitlines()[1]
    assert body not in repr(identity())
    assert body not in str(identity())


def test_the_fingerprint_is_openssls(tmp_path: Path) -> None:
    path = tmp_path / "c.pem"
    path.write_bytes(identity().certificate_pem)
    shown = subprocess.run(
        ["openssl", "x509", "-in", path, "-noout", "-fingerprint", "-sha256"],
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    assert shown.strip().partition("=")[2] == identity().fingerprint.removeprefix("sha256 ")


def test_openssl_verifies_the_certificate_by_itself_strictly(tmp_path: Path) -> None:
    path = tmp_path / "c.pem"
    path.write_bytes(identity().certificate_pem)
    command = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", str(path)]
    checks = ["-verify_hostname", "localhost", "-verify_ip", "127.0.0.1"]
    subprocess.run([*command, *checks, str(path)], capture_output=True, check=True)
    wrong = [*command, "-verify_hostname", "other.example", str(path)]
    assert subprocess.run(wrong, capture_output=True, check=False).returncode != 0


@pytest.mark.parametrize(
    ("dns_names", "addresses", "valid_days", "common_name", "word"),
    [
        ([], [], 1, "a", "DNS name or address"),
        (["a"], [], 0, "a", "one day"),
        ([], ["300.1.1.1"], 1, "a", "300.1.1.1"),
        (["a"], [], 1, "x" * 65, "64"),
        (["ä"], [], 1, "a", "DNSName"),
    ],
)
def test_names_that_do_not_fit_are_refused(
    dns_names: list[str], addresses: list[str], valid_days: int, common_name: str, word: str
) -> None:
    with pytest.raises(ConfigError, match=word):
        make_identity(
            common_name,
            "o",
            dns_names=dns_names,
            addresses=addresses,
            valid_days=valid_days,
            now=now(),
        )


def write(folder: Path, certificate: bytes, key: bytes) -> tuple[Path, Path]:
    paths = folder / "server.crt", folder / "server.key"
    paths[0].write_bytes(certificate)
    paths[1].write_bytes(key)
    return paths


@pytest.mark.parametrize("kind", ["EC", "RSA"])
def test_files_give_the_same_identity_back(tmp_path: Path, kind: str) -> None:
    made = identity() if kind == "EC" else rsa_identity()
    loaded = load_identity(*write(tmp_path, made.certificate_pem, made.private_key_pem), now())
    assert loaded.certificate_pem == made.certificate_pem
    assert loaded.private_key_pem == made.private_key_pem
    expected = ssl.PEM_cert_to_DER_cert(made.certificate_pem.decode())
    assert x509.load_pem_x509_certificate(loaded.certificate_pem).public_bytes(
        serialization.Encoding.DER
    ) == (expected)


def test_a_chain_is_kept_in_its_order(tmp_path: Path) -> None:
    chain = identity().certificate_pem + rsa_identity().certificate_pem
    loaded = load_identity(*write(tmp_path, chain, identity().private_key_pem), now())
    assert loaded.certificate_pem == chain
    assert loaded.fingerprint == identity().fingerprint


def problems(folder: Path, certificate: bytes, key: bytes, at: datetime.datetime) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_identity(*write(folder, certificate, key), at)
    return list(caught.value.problems)


def pem(
    key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey,
    password: bytes | None = None,
) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(password)
        if password
        else serialization.NoEncryption(),
    )


@pytest.mark.parametrize(
    ("made_key", "word"),
    [
        (lambda: pem(ec.generate_private_key(ec.SECP256R1())), "isn't the key"),
        (lambda: pem(ec.generate_private_key(ec.SECP256R1()), b"secret"), "encrypted"),
        (lambda: pem(ec.generate_private_key(ec.SECP256K1())), "must be P-256"),
        (lambda: pem(ed25519.Ed25519PrivateKey.generate()), "must be P-256"),
        (lambda: pem(rsa.generate_private_key(65537, 1024)), "2048"),
        (lambda: b"", "PEM"),
        (lambda: b"\x30\x82\x01", "PEM"),
        (lambda: b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "valid PEM"),
        (lambda: identity().certificate_pem, "valid PEM"),
    ],
)
def test_a_bad_key_is_named_with_its_reason(
    tmp_path: Path, made_key: type[bytes], word: str
) -> None:
    key = made_key()
    found = problems(tmp_path, identity().certificate_pem, key, now())
    assert len(found) == 1
    assert found[0].startswith(str(tmp_path / "server.key"))
    assert word in found[0]
    assert not key or key.decode("latin-1") not in found[0]


@pytest.mark.parametrize(
    ("certificate", "after", "word"),
    [
        (None, 3 * DAY, "expired"),
        (None, -3 * DAY, "isn't valid before"),
        (b"", 0 * DAY, "PEM"),
        (b"x" * 300_000, 0 * DAY, "at most"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", 0 * DAY, "valid PEM"),
    ],
)
def test_a_bad_certificate_is_named_with_its_reason(
    tmp_path: Path, certificate: bytes | None, after: datetime.timedelta, word: str
) -> None:
    content = identity().certificate_pem if certificate is None else certificate
    found = problems(tmp_path, content, identity().private_key_pem, now() + after)
    assert len(found) == 1
    assert found[0].startswith(str(tmp_path / "server.crt"))
    assert word in found[0]


def test_missing_files_are_reported_together(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_identity(tmp_path / "no.crt", tmp_path / "no.key", now())
    assert str(tmp_path / "no.crt") in caught.value.problems[0]
    assert str(tmp_path / "no.key") in caught.value.problems[1]


def test_an_identity_is_a_value() -> None:
    assert ServerIdentity(b"a", b"b", "c") == ServerIdentity(b"a", b"b", "c")


def test_client_ca_may_hold_several_certificates_and_text(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    pem = identity().certificate_pem + rsa_identity().certificate_pem
    file.write_bytes(b"our clients\n" + pem)
    assert load_client_ca(file) == pem


@pytest.mark.parametrize("content", [None, b"", b"text", b"-----BEGIN CERTIFICATE-----\nAA"])
def test_client_ca_that_is_none(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"ca\.pem"):
        load_client_ca(file)
