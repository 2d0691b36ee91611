"""The key that signs an enclave. SGX wants RSA with 3072 bits and exponent 3."""

from __future__ import annotations

import hashlib
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key

from tools.errors import ImageBuildError
from tools.files import write_file

KEY_BITS = 3072
EXPONENT = 3


def ensure_signing_key(path: Path) -> bool:
    """Makes a signing key, mode 0600, unless the file is there already.

    Occlum's own default key is public, so that a signature by it proves nothing.

    Returns:
        Whether a new key was made.
    """
    if path.exists():
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    key = generate_private_key(public_exponent=EXPONENT, key_size=KEY_BITS)
    text = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    write_file(path, text, mode=0o600)
    return True


def mr_signer(path: Path) -> str:
    """SHA-256 of the key's modulus as 384 little-endian bytes, in hex: SGX's MRSIGNER.

    Raises:
        ImageBuildError: the file isn't a key that SGX accepts.
    """
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise ImageBuildError(str(path), [f"isn't a PEM private key: {error}"]) from error
    if not isinstance(key, RSAPrivateKey):
        raise ImageBuildError(str(path), ["must be an RSA key of 3072 bits with exponent 3"])
    numbers = key.public_key().public_numbers()
    if key.key_size != KEY_BITS or numbers.e != EXPONENT:
        raise ImageBuildError(
            str(path),
            [
                f"must be an RSA key of 3072 bits with exponent 3, not {key.key_size} bits with "
                f"{numbers.e}; make one with: openssl genrsa -3 -out KEY.pem 3072"
            ],
        )
    return hashlib.sha256(numbers.n.to_bytes(KEY_BITS // 8, "little")).hexdigest()
