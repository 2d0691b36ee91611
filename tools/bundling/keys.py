"""Makes and reads the owner's keys."""

from __future__ import annotations

import base64
import secrets
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from app.objects import KEY_BYTES
from tools.errors import KeyPolicyError
from tools.files import write_new_file

_SECRET_MODE = 0o600
_PUBLIC_MODE = 0o644


def make_model_key(path: Path) -> None:
    """Writes a fresh random model key that only its owner can read.

    Raises:
        KeyPolicyError: when the file exists: what was encrypted with it would be lost.
    """
    _write_new(path, secrets.token_bytes(KEY_BYTES), _SECRET_MODE)


def make_owner_key(path: Path) -> Path:
    """Writes a fresh Ed25519 signing key as PEM, and its public half beside it.

    Returns:
        The public key's file: 32 bytes as base64 text.

    Raises:
        KeyPolicyError: when one of the files exists, or both would be the same file.
    """
    public_path = public_key_path(path)
    if public_path == path:
        raise KeyPolicyError(f"{path}: that is the name of its public half; choose OWNER.pem")
    if public_path.exists():
        raise _exists(public_path)
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    _write_new(path, pem, _SECRET_MODE)
    _write_new(public_path, encode_public_key(key.public_key()), _PUBLIC_MODE)
    return public_path


def public_key_path(owner_key: Path) -> Path:
    """Gives where the public half of an owner key lies."""
    return owner_key.with_suffix(".pub")


def encode_public_key(key: Ed25519PublicKey) -> bytes:
    """Gives a public key as one line of base64."""
    return base64.b64encode(key.public_bytes(Encoding.Raw, PublicFormat.Raw)) + b"\n"


def read_owner_key(path: Path) -> Ed25519PrivateKey:
    """Reads an owner's signing key.

    Raises:
        KeyPolicyError: when it can't be read or isn't an Ed25519 key without a password.
    """
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise KeyPolicyError(
            f"owner key {path}: {error.strerror}; 'tools/bundle.py keygen owner {path}' makes one"
        ) from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyPolicyError(f"owner key {path}: not a PEM private key without password") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyPolicyError(f"owner key {path}: expected an Ed25519 key")
    return key


def read_public_key(path: Path) -> Ed25519PublicKey:
    """Reads an owner's public key.

    Raises:
        KeyPolicyError: when it can't be read or isn't 32 bytes of base64.
    """
    try:
        raw = base64.b64decode(path.read_bytes().strip(), validate=True)
        return Ed25519PublicKey.from_public_bytes(raw)
    except OSError as error:
        raise KeyPolicyError(f"owner public key {path}: {error.strerror}") from error
    except ValueError as error:
        raise KeyPolicyError(
            f"owner public key {path}: expected 32 bytes as base64, as 'keygen owner' writes them"
        ) from error


def _write_new(path: Path, content: bytes, mode: int) -> None:
    try:
        write_new_file(path, content, mode)
    except FileExistsError as error:
        raise _exists(path) from error


def _exists(path: Path) -> KeyPolicyError:
    return KeyPolicyError(
        f"{path} exists and keys are never overwritten; use it, or choose another name"
    )
