"""Authenticated reads of an encrypted bundle.

Untrusted bytes become trusted in a fixed order or not at all:

1. manifest.json and manifest.sig are read; nothing of them is believed.
2. The Ed25519 signature is checked with the owner's key from the measured configuration.
3. The manifest is parsed; its model id and version are compared with the configuration.
4. The model key must be the one that the owner signed for.
5. Every object's file must have exactly the size that the manifest implies.
6. An object is decrypted chunk by chunk to its end; only then is it used.

A failure of 1, 2, 4, 5, 6 or an old version is one `BundleIntegrityError`. That a file can't be
read at the moment is a `BundleReadError` and says nothing of the bundle.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Final

import numpy as np
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from numpy.typing import NDArray

from app.card import ModelCard, read_card
from app.errors import BundleFormatError, BundleIntegrityError, BundleReadError
from app.fields import FieldError, Fields, parse_json
from app.files import BundleFiles, WrongFileError, open_file, read_at, read_file
from app.loading import Load
from app.manifest import (
    MAX_MANIFEST_BYTES,
    Manifest,
    PartitionLayout,
    parse_manifest,
    parse_structure,
)
from app.objects import (
    TAG_BYTES,
    Kind,
    ObjectName,
    associated_data,
    chunk_count,
    chunk_nonce,
    ciphertext_bytes,
    object_key,
)

MANIFEST_FILE: Final = "manifest.json"
SIGNATURE_FILE: Final = "manifest.sig"
SIGNATURE_BYTES: Final = 64
SIGNED_PREFIX: Final = b"cloister manifest\x00"
"""Goes before the manifest in what is signed, so that the signature fits nothing else."""


@dataclass(frozen=True, slots=True)
class SignedManifest:
    """A manifest of which nothing is believed yet.

    Attributes:
        raw: content of manifest.json.
        signature: content of manifest.sig.
    """

    raw: bytes
    signature: bytes

    @classmethod
    def read(cls, folder: Path) -> SignedManifest:
        """Reads both files of a bundle.

        Raises:
            BundleIntegrityError: one is missing, too large or no regular file.
            BundleReadError: one can't be read.
        """
        signature = _read_small_file(folder / SIGNATURE_FILE, SIGNATURE_BYTES)
        return cls(_read_small_file(folder / MANIFEST_FILE, MAX_MANIFEST_BYTES), signature)

    def verified(self, owner: Ed25519PublicKey) -> Manifest:
        """Gives the manifest if this owner signed it.

        Raises:
            BundleIntegrityError: he didn't.
            BundleFormatError: what he signed isn't of this format.
        """
        try:
            owner.verify(self.signature, SIGNED_PREFIX + self.raw)
        except InvalidSignature as error:
            raise BundleIntegrityError from error
        return parse_manifest(self.raw)


def read_manifest(folder: Path, owner: Ed25519PublicKey, *, minimum_version: int) -> Manifest:
    """Reads a bundle's manifest and returns it only when the owner signed it.

    Whether a bundle is served is decided in `app.serving.repository`: this doesn't look at its
    format, its time, or which model it is.

    Args:
        folder: the bundle.
        owner: the key that must have signed; from a trusted place.
        minimum_version: the oldest model version to accept.

    Raises:
        BundleIntegrityError: when a file is missing, the signature doesn't hold, or the version
            is older.
        BundleFormatError: when the signed manifest isn't of this format.
        BundleReadError: when a file can't be read.
    """
    manifest = SignedManifest.read(folder).verified(owner)
    if manifest.identity.model_version < minimum_version:
        raise BundleIntegrityError
    return manifest


def check_sizes(folder: Path, manifest: Manifest) -> None:
    """Compares every object's size with what the manifest implies; needs no key.

    Raises:
        BundleIntegrityError: when one is missing or has another size.
        BundleReadError: when one can't be looked at.
    """
    for name, size_bytes in objects_of(manifest):
        _check_size(folder / name.file, ciphertext_bytes(size_bytes, manifest.chunk_bytes))


def objects_of(manifest: Manifest) -> Iterator[tuple[ObjectName, int]]:
    """Gives every object of a bundle with its plaintext's size in bytes."""
    count = len(manifest.partitions)
    yield ObjectName(Kind.CARD, 0, count), manifest.card_bytes
    for index, sizes in enumerate(manifest.partitions):
        yield ObjectName(Kind.STRUCTURE, index, count), sizes.structure_bytes
        yield ObjectName(Kind.WEIGHTS, index, count), sizes.weights_bytes


class BundleReader:
    """Reads the objects of one bundle whose manifest is verified.

    It is used by one thread at a time, but for the pieces of one object.

    Args:
        folder: the bundle.
        manifest: from `read_manifest`.
        model_key: 32 bytes.
        lanes: threads that may decrypt pieces of one object at the same time.

    Raises:
        BundleIntegrityError: the owner signed for another key. So a key that somebody else
            brings decrypts nothing.
    """

    def __init__(
        self, folder: Path, manifest: Manifest, model_key: bytes, *, lanes: int = 1
    ) -> None:
        if not manifest.commits_to(model_key):
            raise BundleIntegrityError
        self.manifest = manifest
        self.lanes = lanes
        """Threads that may decrypt pieces of one object at the same time."""
        self._folder = folder
        self._model_key = model_key
        self._files = BundleFiles(folder)
        self._places: dict[ObjectName, _Place] = {}

    @property
    def partition_count(self) -> int:
        """How many partitions the bundle has."""
        return len(self.manifest.partitions)

    @property
    def scratch_bytes(self) -> int:
        """Memory that reading takes beside its destination, and that counts against the budget.

        A chunk of ciphertext for every thread.
        """
        return self.lanes * (self.manifest.chunk_bytes + TAG_BYTES)

    def weights_bytes(self, partition: int) -> int:
        """Gives the size of a partition's weights object in bytes."""
        return self.manifest.partitions[partition].weights_bytes

    def read_card(self) -> ModelCard:
        """Decrypts the model card.

        Raises:
            BundleIntegrityError: when the object doesn't authenticate.
            BundleFormatError: when it isn't a card.
        """
        raw = self._read_small(Kind.CARD, 0, self.manifest.card_bytes)
        try:
            fields = Fields(parse_json(raw), "card")
            card = read_card(fields)
            fields.done()
        except FieldError as error:
            raise BundleFormatError(str(error)) from error
        return card

    def read_structure(self, partition: int) -> tuple[PartitionLayout, bytes]:
        """Decrypts a partition's wiring and its ONNX graph without weights.

        Raises:
            BundleIntegrityError: when the object doesn't authenticate.
            BundleFormatError: when it isn't a structure.
        """
        sizes = self.manifest.partitions[partition]
        raw = self._read_small(Kind.STRUCTURE, partition, sizes.structure_bytes)
        return parse_structure(raw, sizes.weights_bytes)

    def load_weights(self, partition: int, into: NDArray[np.uint8]) -> Load:
        """Begins to decrypt a partition's weights into the caller's buffer.

        Args:
            partition: its index.
            into: contiguous bytes, at least `weights_bytes(partition)`; the caller
                keeps ownership. Zeroed when the object doesn't authenticate.

        Returns:
            The load. It raises BundleIntegrityError when the object doesn't authenticate to its
            end; only after it has finished may the buffer be used.
        """
        name = ObjectName(Kind.WEIGHTS, partition, self.partition_count)
        return Load(self._object(name, into[: self.weights_bytes(partition)]))

    def read_weights(self, partition: int, into: NDArray[np.uint8]) -> None:
        """Does the same alone and at once.

        Raises:
            BundleIntegrityError: when the object doesn't authenticate to its end.
        """
        _complete(self.load_weights(partition, into))

    def verify(self) -> None:
        """Decrypts every object once and keeps nothing.

        Raises:
            BundleIntegrityError, BundleFormatError: as the single reads do.
        """
        check_sizes(self._folder, self.manifest)
        self.read_card()
        largest = max(sizes.weights_bytes for sizes in self.manifest.partitions)
        buffer = np.empty(largest, dtype=np.uint8)
        for partition in range(self.partition_count):
            self.read_structure(partition)
            self.read_weights(partition, buffer)

    def _read_small(self, kind: Kind, index: int, size_bytes: int) -> bytes:
        name = ObjectName(kind, index, self.partition_count)
        # The file's size is looked at before memory is taken for what a manifest claims.
        file_bytes = ciphertext_bytes(size_bytes, self.manifest.chunk_bytes)
        _check_size(self._folder / name.file, file_bytes)
        buffer = np.empty(size_bytes, dtype=np.uint8)
        _complete(Load(self._object(name, buffer)))
        return buffer.tobytes()

    def _object(self, name: ObjectName, into: NDArray[np.uint8]) -> _EncryptedObject:
        place = self._places.get(name) or self._places.setdefault(name, self._place(name, into))
        chunks = _Chunks(self.manifest.chunk_bytes, place.bound, into)
        return _EncryptedObject(self._files, place, chunks)

    def _place(self, name: ObjectName, into: NDArray[np.uint8]) -> _Place:
        bound = associated_data(self.manifest.identity, name, into.nbytes)
        derive = partial(object_key, self._model_key, self.manifest.identity, name)
        return _Place(name.file, bound, cache(derive), name.kind is Kind.WEIGHTS)


def _complete(load: Load) -> None:
    load.work()
    load.finish()


@dataclass(frozen=True, slots=True)
class _Place:
    """What doesn't change from one load of an object to the next.

    Attributes:
        file: the name of its file.
        bound: associated data.
        cipher: gives its key, derived when it is asked for first.
        is_read_again: whether its file is kept open, for every request reads it.
    """

    file: str
    bound: bytes
    cipher: Callable[[], AESGCM]
    is_read_again: bool


@dataclass(frozen=True, slots=True)
class _Chunks:
    """Where an object's chunks go.

    Attributes:
        chunk_bytes: plaintext of each but the last.
        bound: associated data.
        into: the plaintext's place.
    """

    chunk_bytes: int
    bound: bytes
    into: NDArray[np.uint8]

    @property
    def count(self) -> int:
        return chunk_count(self.into.nbytes, self.chunk_bytes)

    @property
    def file_bytes(self) -> int:
        return ciphertext_bytes(self.into.nbytes, self.chunk_bytes)

    def decrypt(self, file: int, cipher: AESGCM, chunk: int) -> None:
        plain = self.into[chunk * self.chunk_bytes : (chunk + 1) * self.chunk_bytes]
        offset = chunk * (self.chunk_bytes + TAG_BYTES)
        to_end = chunk == self.count - 1
        ciphertext = read_at(file, plain.nbytes + TAG_BYTES, offset, to_end=to_end)
        if ciphertext is None:
            raise InvalidTag
        cipher.decrypt_into(chunk_nonce(chunk), ciphertext, self.bound, plain.data)


class _EncryptedObject:
    """One object on its way into a buffer; its chunks are the pieces of the load."""

    def __init__(self, files: BundleFiles, place: _Place, chunks: _Chunks) -> None:
        self._files = files
        self._place = place
        self._chunks = chunks
        self._opening = threading.Lock()
        self._opened: tuple[int, AESGCM] | None = None

    @property
    def pieces(self) -> int:
        return self._chunks.count

    def fill(self, piece: int) -> None:
        try:
            file, cipher = self._open()
            self._chunks.decrypt(file, cipher, piece)
        except (WrongFileError, InvalidTag) as error:
            raise BundleIntegrityError from error
        except OSError as error:
            raise BundleReadError(self._files.folder / self._place.file, error) from error

    def close(self, *, complete: bool) -> None:
        if self._opened is not None:
            keep = complete and self._place.is_read_again
            self._files.give_back(self._place.file, self._opened[0], keep=keep)
            self._opened = None
        if not complete:
            self._chunks.into[:] = 0

    def _open(self) -> tuple[int, AESGCM]:
        """Takes the file and derives its key when the first piece is asked for."""
        with self._opening:
            if self._opened is None:
                file = self._files.take(self._place.file, self._chunks.file_bytes)
                self._opened = file, self._place.cipher()
            return self._opened


def _check_size(path: Path, size_bytes: int) -> None:
    try:
        os.close(open_file(path, size_bytes))
    except WrongFileError as error:
        raise BundleIntegrityError from error
    except OSError as error:
        raise BundleReadError(path, error) from error


def _read_small_file(path: Path, most_bytes: int) -> bytes:
    try:
        return read_file(path, most_bytes)
    except WrongFileError as error:
        raise BundleIntegrityError from error
    except OSError as error:
        raise BundleReadError(path, error) from error
