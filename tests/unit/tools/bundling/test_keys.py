from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from app.keys import read_key_file
from tests.folders import KEYS
from tools.bundling.keys import make_model_key, make_owner_key, read_owner_key, read_public_key
from tools.errors import KeyPolicyError


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_model_keys_are_random_private_and_never_overwritten(tmp_path: Path) -> None:
    paths = [tmp_path / "deep" / name for name in ("a.key", "b.key")]
    for path in paths:
        make_model_key(path)
        assert mode(path) == 0o600
    first, second = map(read_key_file, paths)
    assert first != second
    with pytest.raises(KeyPolicyError, match="never overwritten"):
        make_model_key(paths[0])
    assert read_key_file(paths[0]) == first


def test_owner_key_and_its_public_half(tmp_path: Path) -> None:
    path = tmp_path / "owner.pem"
    public = make_owner_key(path)
    assert (public, mode(path), mode(public)) == (tmp_path / "owner.pub", 0o600, 0o644)
    signature = read_owner_key(path).sign(b"text")
    read_public_key(public).verify(signature, b"text")


@pytest.mark.parametrize("there", ["owner.pem", "owner.pub"])
def test_neither_half_is_overwritten(tmp_path: Path, there: str) -> None:
    (tmp_path / there).write_text("old")
    with pytest.raises(KeyPolicyError, match=f"{there} exists"):
        make_owner_key(tmp_path / "owner.pem")
    assert [path.name for path in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).read_text() == "old"


def test_owner_key_named_like_its_public_half(tmp_path: Path) -> None:
    with pytest.raises(KeyPolicyError, match="name of its public half"):
        make_owner_key(tmp_path / "owner.pub")
    assert list(tmp_path.iterdir()) == []


def pem(password: bytes | None = None, *, curve: bool = False) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1()) if curve else KEYS.owner
    protection = BestAvailableEncryption(password) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "'tools/bundle.py keygen owner"),
        (b"", "not a PEM private key"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "not a PEM"),
        (pem(b"password"), "without password"),
        (pem(curve=True), "expected an Ed25519 key"),
    ],
)
def test_file_that_is_no_owner_key(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "owner.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(KeyPolicyError, match=said):
        read_owner_key(path)


@pytest.mark.parametrize("content", [None, b"", b"AAAA", b"!", pem()])
def test_file_that_is_no_public_key(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "owner.pub"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(KeyPolicyError, match=r"owner public key .*owner\.pub"):
        read_public_key(path)
