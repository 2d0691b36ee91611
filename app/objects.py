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

TAG_BYTES: Final = 16
KEY_BYTES: Final = 32
CHECK_BYTES: Final = 32
BUNDLE_ID_BYTES: Final = 32


class Kind(enum.Enum):
    """What an object holds; the value is the number in its associated data."""

    CARD = 0
    STRUCTURE = 1
    WEIGHTS = 2


@dataclass(frozen=True, slots=True)
class Identity:
    """What every object of one bundle is bound to.

    Attributes:
        model_id, model_version: which model it is.
        bundle_id: 32 random bytes of this very bundle.
        format_version: the format that its objects are written in; keys and associated data
            carry it, so objects of one format aren't objects of another.
    """

    model_id: str
    model_version: int
    bundle_id: bytes
    format_version: int


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


def object_key(model_key: bytes, identity: Identity, name: ObjectName) -> AESGCM:
    """Derives the cipher of one object: HKDF-SHA-256 (RFC 5869).

    The salt is the random id of this very bundle, so a key is never used for
    two objects, and the chunk's number alone is a safe nonce.
    """
    place = struct.pack(">III", identity.format_version, name.kind.value, name.index)
    info = b"cloister object key" + place
    return AESGCM(HKDF(SHA256(), KEY_BYTES, identity.bundle_id, info).derive(model_key))


def key_check(model_key: bytes, salt: bytes) -> bytes:
    """Derives 32 bytes that commit to a model key and tell nothing of it.

    AES-GCM alone doesn't commit to its key: whoever brings a key of his own can bring objects
    that decrypt under it. So what the owner signs holds this value.

    Args:
        model_key: 32 bytes.
        salt: the bundle's id in a manifest; empty for the key by itself.
    """
    return HKDF(SHA256(), CHECK_BYTES, salt, b"cloister key check 1\0").derive(model_key)


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
            struct.pack(">II", identity.format_version, len(model_id)),
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
