"""The host changes a bundle's files: every change is refused before anything is loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from app.bundle import BundleReader, read_manifest
from app.errors import BundleIntegrityError
from tests import folders, models
from tests.folders import KEYS
from tests.host import Host
from tools.model_folder import ModelFolder

MESSAGE = str(BundleIntegrityError())
FILES = (
    "manifest.json",
    "manifest.sig",
    "card.enc",
    *(f"{index:05d}.{kind}.enc" for index in range(4) for kind in ("structure", "weights")),
)


@pytest.fixture
def bundle(chain_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the chain's bundle that a test may spoil."""
    return folders.copy(chain_bundle, tmp_path / "chain.bundle")


@pytest.fixture(scope="module")
def other_writings(
    chain_folder: ModelFolder, tmp_path_factory: pytest.TempPathFactory
) -> dict[int, Path]:
    """The same model written again, as version 2 and as version 3."""
    folder = tmp_path_factory.mktemp("writings")
    return {
        version: folders.make_bundle(chain_folder, folder / f"{version}.bundle", version=version)
        for version in (2, 3)
    }


def check_refused(host: Host, bundle: Path) -> None:
    start = host.start(bundle)
    assert start.status == 1
    assert start.loaded_nothing
    assert start.said == f"error: {MESSAGE}\n", "one message whatever failed"


def test_the_list_of_files_is_complete(bundle: Path) -> None:
    assert {path.name for path in bundle.iterdir()} == set(FILES)


def test_untouched_bundle_is_served(host: Host, bundle: Path) -> None:
    start = host.start(bundle)
    assert (start.status, len(start.opened), start.listening) == (0, 4, True)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("place", [0.0, 0.3, 0.6, 1.0])
def test_flipped_bit(host: Host, bundle: Path, file: str, place: float) -> None:
    raw = bytearray((bundle / file).read_bytes())
    raw[int(place * (len(raw) - 1))] ^= 1
    (bundle / file).write_bytes(raw)
    check_refused(host, bundle)


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "last byte gone": lambda raw: raw[:-1],
    "first byte gone": lambda raw: raw[1:],
    "half gone": lambda raw: raw[: len(raw) // 2],
    "all gone": lambda _: b"",
    "byte appended": lambda raw: raw + b"\0",
    "twice": lambda raw: raw + raw,
    "zeros": lambda raw: bytes(len(raw)),
    "last bit flipped": lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]),
}


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("change", CHANGES)
def test_other_content(host: Host, bundle: Path, file: str, change: str) -> None:
    (bundle / file).write_bytes(CHANGES[change]((bundle / file).read_bytes()))
    check_refused(host, bundle)


@pytest.mark.parametrize("file", FILES)
def test_missing_file(host: Host, bundle: Path, file: str) -> None:
    (bundle / file).unlink()
    check_refused(host, bundle)


@pytest.mark.parametrize("file", FILES)
def test_folder_in_the_place_of_a_file(host: Host, bundle: Path, file: str) -> None:
    (bundle / file).unlink()
    (bundle / file).mkdir()
    check_refused(host, bundle)


def test_missing_bundle(host: Host, tmp_path: Path) -> None:
    check_refused(host, tmp_path / "nowhere")


@pytest.mark.parametrize("kinds", [("weights",), ("structure",), ("structure", "weights")])
@pytest.mark.parametrize(("one", "other"), [(0, 1), (1, 3)])
def test_swapped_partitions(
    host: Host, bundle: Path, kinds: tuple[str, ...], one: int, other: int
) -> None:
    """All partitions of a chain have equal sizes, so nothing but the encryption tells them."""
    for kind in kinds:
        a, b = (bundle / f"{index:05d}.{kind}.enc" for index in (one, other))
        a_raw, b_raw = a.read_bytes(), b.read_bytes()
        a.write_bytes(b_raw)
        b.write_bytes(a_raw)
    check_refused(host, bundle)


def test_chunks_of_one_object_swapped(host: Host, bundle: Path, tmp_path: Path) -> None:
    path = bundle / "00000.weights.enc"
    raw = path.read_bytes()
    size = folders.CHUNK_BYTES + 16
    assert len(raw) == size, "the chain's weights fill one chunk"
    folder = folders.make_folder(models.chain(), tmp_path / "whole", count=1)
    large = folders.make_bundle(folder, tmp_path / "large.bundle")
    raw = (large / path.name).read_bytes()
    (large / path.name).write_bytes(raw[size : 2 * size] + raw[:size] + raw[2 * size :])
    (host.folder / "keys").mkdir()
    (host.folder / "keys" / "whole.key").write_bytes(KEYS.model_key)
    check_refused(host, large)


@pytest.mark.parametrize("kind", ["structure", "weights"])
def test_partition_of_another_model_under_the_same_keys(
    host: Host, bundle: Path, tmp_path: Path, kind: str
) -> None:
    other = folders.make_folder(models.chain(), tmp_path / "other", count=4)
    foreign = folders.make_bundle(other, tmp_path / "other.bundle", version=3)
    name = f"00001.{kind}.enc"
    assert (foreign / name).stat().st_size == (bundle / name).stat().st_size
    (bundle / name).write_bytes((foreign / name).read_bytes())
    check_refused(host, bundle)


@pytest.mark.parametrize("file", [name for name in FILES if name.endswith(".enc")])
@pytest.mark.parametrize("version", [2, 3])
def test_object_of_another_writing_of_the_same_model(
    host: Host, bundle: Path, other_writings: dict[int, Path], file: str, version: int
) -> None:
    """Same keys, model, index and size; an older version, or only another bundle id."""
    (bundle / file).write_bytes((other_writings[version] / file).read_bytes())
    check_refused(host, bundle)


@pytest.mark.parametrize("change", sorted(CHANGES))
def test_changed_while_it_is_served(bundle: Path, change: str) -> None:
    """Every read authenticates again, and nothing of what failed stays in the buffer."""
    manifest = read_manifest(bundle, KEYS.owner.public_key(), minimum_version=1)
    reader = BundleReader(bundle, manifest, KEYS.model_key)
    reader.verify()
    path = bundle / "00002.weights.enc"
    path.write_bytes(CHANGES[change](path.read_bytes()))
    buffer = np.full(reader.weights_bytes(2), 0xAA, dtype=np.uint8)
    with pytest.raises(BundleIntegrityError):
        reader.read_weights(2, buffer)
    assert not buffer.any()
    reader.read_weights(1, buffer)
    assert buffer.any()


def test_later_chunk_fails_and_the_earlier_ones_are_wiped(tmp_path: Path) -> None:
    folder = folders.make_folder(models.chain(), tmp_path / "whole", count=1)
    bundle = folders.make_bundle(folder, tmp_path / "whole.bundle")
    path = bundle / "00000.weights.enc"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    manifest = read_manifest(bundle, KEYS.owner.public_key(), minimum_version=1)
    buffer = np.full(manifest.partitions[0].weights_bytes, 0xAA, dtype=np.uint8)
    assert buffer.nbytes > 3 * folders.CHUNK_BYTES
    with pytest.raises(BundleIntegrityError):
        BundleReader(bundle, manifest, KEYS.model_key).read_weights(0, buffer)
    assert not buffer.any()
