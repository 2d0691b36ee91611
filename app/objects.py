"""One encrypted object of a bundle: its key, its associated data, its chunks.

An object is the concatenation of its chunks. A chunk holds up to the
manifest's `chunk_bytes` of plaintext as AES-256-GCM ciphertext followed by its
16-byte tag; only the last chunk is shorter, and an empty object is one empty
chunk. README.md in this folder has the whole format.

Chunking bounds the memory a reader needs beside the destination: one chunk of
ciphertext instead of a second copy of the object.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

FORMAT_VERSION: Final = 1
TAG_BYTES: Final = 16
KEY_BYTES: Final = 32
BUNDLE_ID_BYTES: Final = 32


class Kind(enum.Enum):
    """What an object holds; the value is the number in its associated data."""

    CARD = 0
    STRUCTURE = 1
    WEIGHTS = 2


@dataclass(frozen=True, slots=True)
class Identity:
    """What every object of one bundle is bound to."""

    model_id: str
    model_version: int
    bundle_id: bytes


@dataclass(frozen=True, slots=True)
class ObjectName:
    """One object's place in its bundle.

    Attributes:
        kind: what it holds.
        index: the partition's index; 0 for the card.
        count: how many partitions the bundle has.
    """

    kind: Kind
    index: int
    count: int

    @property
    def file(self) -> str:
        """The file's name in the bundle folder; it is never read from a manifest."""
        if self.kind is Kind.CARD:
            return "card.enc"
        return f"{self.index:05d}.{self.kind.name.lower()}.enc"


def object_key(model_key: bytes, bundle_id: bytes, name: ObjectName) -> AESGCM:
    """Derives the cipher of one object: HKDF-SHA-256 (RFC 5869).

    The salt is the random id of this very bundle, so a key is never used for
    two objects, and the chunk's number alone is a safe nonce.
    """
    info = b"cloister object key" + struct.pack(">III", FORMAT_VERSION, name.kind.value, name.index)
    return AESGCM(HKDF(SHA256(), KEY_BYTES, bundle_id, info).derive(model_key))


def chunk_nonce(chunk: int) -> bytes:
    """Gives the 96-bit nonce of a chunk."""
    return struct.pack(">IQ", 0, chunk)


def associated_data(identity: Identity, name: ObjectName, plaintext_bytes: int) -> bytes:
    """Gives the associated data of all chunks of one object.

    It binds the format version, model, bundle, kind, place and total size. The
    chunk's own number is bound as the nonce.
    """
    model_id = identity.model_id.encode()
    return b"".join(
        (
            b"cloister object",
            struct.pack(">II", FORMAT_VERSION, len(model_id)),
            model_id,
            struct.pack(">Q", identity.model_version),
            identity.bundle_id,
            struct.pack(">IIIQ", name.kind.value, name.index, name.count, plaintext_bytes),
        )
    )


def chunk_count(plaintext_bytes: int, chunk_bytes: int) -> int:
    """Gives the number of chunks of an object; an empty object has one."""
    return max(1, -(-plaintext_bytes // chunk_bytes))


def ciphertext_bytes(plaintext_bytes: int, chunk_bytes: int) -> int:
    """Gives the exact size of an object's file."""
    return plaintext_bytes + TAG_BYTES * chunk_count(plaintext_bytes, chunk_bytes)
