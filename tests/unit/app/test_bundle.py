"""Reading a bundle; the attacks on it are in tests/attacks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from app.bundle import BundleReader, read_manifest
from app.errors import BundleFormatError
from app.objects import Kind, ObjectName, associated_data, chunk_nonce, object_key
from app.tensors import aligned_buffer
from tests.folders import KEYS
from tools.accuracy.readers import FolderReader
from tools.model_folder import ModelFolder


@pytest.fixture
def reader(chain_bundle: Path) -> BundleReader:
    manifest = read_manifest(chain_bundle, KEYS.owner.public_key(), minimum_version=3)
    return BundleReader(chain_bundle, manifest, KEYS.model_key)


def test_bundle_holds_what_the_folder_holds(
    reader: BundleReader, chain_folder: ModelFolder
) -> None:
    plain = FolderReader(chain_folder)
    assert reader.partition_count == plain.partition_count == 4
    assert reader.read_card() == chain_folder.card
    for index in range(reader.partition_count):
        assert reader.read_structure(index) == plain.read_structure(index)
        size = reader.weights_bytes(index)
        assert size == plain.weights_bytes(index) > 0
        expected, found = aligned_buffer(size), aligned_buffer(size)
        plain.read_weights(index, expected)
        reader.read_weights(index, found)
        assert found.tobytes() == expected.tobytes()


def test_weights_stay_inside_their_part_of_a_larger_buffer(reader: BundleReader) -> None:
    size = reader.weights_bytes(0)
    buffer = np.full(size + 100, 7, dtype=np.uint8)
    reader.read_weights(0, buffer)
    assert (buffer[size:] == 7).all()


def test_reader_holds_one_chunk_and_a_tag(reader: BundleReader) -> None:
    assert reader.scratch_bytes == reader.manifest.chunk_bytes + 16
    assert reader.weights_bytes(0) >= reader.manifest.chunk_bytes


def test_verify_reads_every_object(reader: BundleReader, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    original = BundleReader._decrypt_file

    def record(self: BundleReader, file: object, name: ObjectName, into: object) -> None:
        seen.append(name.file)
        original(self, file, name, into)  # type: ignore[arg-type]

    monkeypatch.setattr(BundleReader, "_decrypt_file", record)
    reader.verify()
    folder = reader._folder
    assert sorted(seen) == sorted(path.name for path in folder.glob("*.enc"))


def test_authentic_object_that_is_no_card(
    reader: BundleReader, tmp_path: Path, chain_bundle: Path
) -> None:
    """The owner's own mistake: it authenticates, so the message may say what is wrong."""
    plain = b"{" + b" " * (reader.manifest.card_bytes - 2) + b"}"
    name, identity = ObjectName(Kind.CARD, 0, 4), reader.manifest.identity
    cipher = object_key(KEYS.model_key, identity.bundle_id, name)
    encrypted = cipher.encrypt(chunk_nonce(0), plain, associated_data(identity, name, len(plain)))
    (tmp_path / "card.enc").write_bytes(encrypted)
    with pytest.raises(BundleFormatError, match="card: the field 'title' is missing"):
        BundleReader(tmp_path, reader.manifest, KEYS.model_key).read_card()
