from __future__ import annotations

import hashlib
import ssl
from pathlib import Path

import pytest

from tests.unit.app.server.clients import identity
from tools.errors import ServingError, TrustError
from tools.serving_client.trust import Trust, read_token

DER = b"a certificate"
DIGEST = hashlib.sha256(DER)


@pytest.mark.parametrize(
    "text",
    [
        DIGEST.hexdigest(),
        DIGEST.hexdigest().upper(),
        DIGEST.digest().hex(":"),
        "sha256 " + DIGEST.digest().hex(":").upper(),
        f" sha256:{DIGEST.hexdigest()}\n",
    ],
)
def test_fingerprint_in_any_form(text: str) -> None:
    trust = Trust(fingerprint=text)
    trust.check(DER)
    for other in (b"another certificate", b"", None):
        with pytest.raises(ServingError, match="is another one"):
            trust.check(other)


@pytest.mark.parametrize("text", ["", "ab", DIGEST.hexdigest()[:-2], "g" * 64, "00" * 33])
def test_no_fingerprint(text: str) -> None:
    """An unusable one never means that anything is trusted."""
    with pytest.raises(ServingError, match="32 bytes in hexadecimal"):
        Trust(fingerprint=text).context()
    with pytest.raises(ServingError, match="32 bytes in hexadecimal"):
        Trust(fingerprint=text).check(DER)


def test_without_a_fingerprint_the_library_verifies(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_bytes(identity().certificate_pem)
    for trust in (Trust(), Trust(ca_file=file)):
        context = trust.context()
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname
        assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("nothing")
    for trust in (
        Trust(ca_file=broken),
        Trust(ca_file=tmp_path / "none.pem"),
        Trust(certificate=broken),
    ):
        with pytest.raises(TrustError, match="no usable PEM file"):
            trust.context()
    with pytest.raises(TrustError, match="needs its --certificate"):
        Trust(private_key=broken).context()
    with pytest.raises(TrustError, match="not both"):
        Trust(ca_file=broken, fingerprint=DIGEST.hexdigest()).context()


def test_token(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("cloister_a_b\n")
    assert read_token(file) == "cloister_a_b"
    assert "cloister" not in repr(Trust(token="cloister_a_b"))
    for wrong in ("", "a b", "a\nb", "ä", "a\0"):
        file.write_text(wrong)
        with pytest.raises(TrustError, match=r"--token-file .*: expected one line"):
            read_token(file)
