"""Reading a bundle; the attacks on it are in tests/attacks."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from app.bundle import BundleReader, read_manifest
from app.errors import BundleFormatError, BundleIntegrityError
from app.loading import Source
from app.objects import Kind, ObjectName, associated_data, chunk_nonce, object_key
from app.tensors import aligned_buffer
from tests.folders import CHUNK_BYTES, KEYS, copy, make_bundle, make_folder
from tests.graph import Graph
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
        load = plain.load_weights(index, expected)
        load.work()
        load.finish()
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
    original = BundleReader._object

    def record(self: BundleReader, name: ObjectName, into: NDArray[np.uint8]) -> Source:
        seen.append(name.file)
        return original(self, name, into)

    monkeypatch.setattr(BundleReader, "_object", record)
    reader.verify()
    folder = reader._folder
    assert sorted(seen) == sorted(path.name for path in folder.glob("*.enc"))


def test_authentic_object_that_is_no_card(
    reader: BundleReader, tmp_path: Path, chain_bundle: Path
) -> None:
    """The owner's own mistake: it authenticates, so the message may say what is wrong."""
    plain = b"{" + b" " * (reader.manifest.card_bytes - 2) + b"}"
    name, identity = ObjectName(Kind.CARD, 0, 4), reader.manifest.identity
    cipher = object_key(KEYS.model_key, identity, name)
    encrypted = cipher.encrypt(chunk_nonce(0), plain, associated_data(identity, name, len(plain)))
    (tmp_path / "card.enc").write_bytes(encrypted)
    with pytest.raises(BundleFormatError, match="card: the field 'title' is missing"):
        BundleReader(tmp_path, reader.manifest, KEYS.model_key).read_card()


@pytest.fixture(scope="module")
def large_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One partition whose weights fill seven chunks, not all of them whole."""
    graph = Graph()
    value = graph.input("x", ["batch", 65])
    graph.node("MatMul", value, graph.weight(65, 101), out="y")
    graph.output("y", ["batch", 101])
    folder = tmp_path_factory.mktemp("lanes")
    return make_bundle(make_folder(graph.model(), folder / "large"), folder / "large.bundle")


def lanes_reader(bundle: Path, lanes: int) -> BundleReader:
    manifest = read_manifest(bundle, KEYS.owner.public_key(), minimum_version=1)
    return BundleReader(bundle, manifest, KEYS.model_key, lanes=lanes)


def read_together(reader: BundleReader, into: NDArray[np.uint8]) -> None:
    load = reader.load_weights(0, into)
    with ThreadPoolExecutor(reader.lanes) as threads:
        wait([threads.submit(load.work) for _ in range(reader.lanes)])
    load.finish()


@pytest.mark.parametrize("lanes", [2, 3, 4, 7, 8, 16])
def test_lanes_read_the_same_bytes_and_count_their_memory(large_bundle: Path, lanes: int) -> None:
    one, several = lanes_reader(large_bundle, 1), lanes_reader(large_bundle, lanes)
    assert several.scratch_bytes == lanes * one.scratch_bytes
    expected, found = (np.zeros(one.weights_bytes(0), dtype=np.uint8) for _ in range(2))
    assert expected.nbytes > 6 * one.manifest.chunk_bytes
    one.read_weights(0, expected)
    read_together(several, found)
    assert expected.any()
    assert found.tobytes() == expected.tobytes()
    several.verify()
    assert several.read_structure(0) == one.read_structure(0)


def test_only_what_every_request_reads_stays_open(large_bundle: Path) -> None:
    reader = lanes_reader(large_bundle, 1)
    reader.verify()
    links = [path.readlink() for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    kept = {path.name for path in links if path.parent == large_bundle}
    assert kept == {f"{index:05d}.weights.enc" for index in range(reader.partition_count)}


@pytest.mark.parametrize("lanes", [2, 3, 7])
@pytest.mark.parametrize("chunk", range(7))
def test_one_wrong_chunk_in_any_lane_wipes_them_all(
    large_bundle: Path, tmp_path: Path, lanes: int, chunk: int
) -> None:
    bundle = copy(large_bundle, tmp_path / "b")
    path = bundle / "00000.weights.enc"
    right = path.read_bytes()
    wrong = bytearray(right)
    wrong[chunk * (CHUNK_BYTES + 16) + 5] ^= 1
    path.write_bytes(wrong)
    reader = lanes_reader(bundle, lanes)
    buffer = np.full(reader.weights_bytes(0), 0xAA, dtype=np.uint8)
    with pytest.raises(BundleIntegrityError):
        read_together(reader, buffer)
    assert not buffer.any(), "nothing of what failed stays"
    path.write_bytes(right)
    read_together(reader, buffer)
    assert buffer.any(), "usable again"


@pytest.mark.parametrize("lanes", [2, 7])
@pytest.mark.parametrize("change", [lambda raw: raw[:-1], lambda raw: raw + b"0", lambda raw: b""])
def test_file_of_another_length_is_refused_in_every_lane(
    large_bundle: Path, tmp_path: Path, lanes: int, change: Callable[[bytes], bytes]
) -> None:
    bundle = copy(large_bundle, tmp_path / "b")
    path = bundle / "00000.weights.enc"
    path.write_bytes(change(path.read_bytes()))
    reader = lanes_reader(bundle, lanes)
    buffer = np.full(reader.weights_bytes(0), 0xAA, dtype=np.uint8)
    with pytest.raises(BundleIntegrityError):
        read_together(reader, buffer)
    assert not buffer.any()
