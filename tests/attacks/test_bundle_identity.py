"""A bundle that is whole but isn't the right one: wrong key, wrong owner, old, edited, absurd."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from app.errors import BundleIntegrityError
from tests import folders
from tests.folders import KEYS, OTHER_KEYS
from tests.host import Host
from tools.bundling.writer import BundleKeys
from tools.model_folder import ModelFolder

MESSAGE = f"error: {BundleIntegrityError()}\n"


@pytest.fixture
def bundle(chain_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the chain's bundle, version 3, that a test may change."""
    return folders.copy(chain_bundle, tmp_path / "chain.bundle")


def test_wrong_model_key(host: Host, bundle: Path) -> None:
    start = host.start(bundle, model_key=OTHER_KEYS.model_key)
    assert (start.status, start.said) == (1, MESSAGE)
    assert start.loaded_nothing


@pytest.mark.parametrize(
    ("key", "said"), [(None, "No such file"), (b"", "got 0"), (bytes(31), "got 31")]
)
def test_no_model_key(host: Host, bundle: Path, key: bytes | None, said: str) -> None:
    start = host.start(bundle, model_key=key)
    assert start.status == 1
    assert said in start.said
    assert start.loaded_nothing


def test_wrong_owner(host: Host, bundle: Path) -> None:
    start = host.start(bundle, owner=OTHER_KEYS.owner.public_key())
    assert (start.status, start.said) == (1, MESSAGE)
    assert start.loaded_nothing


def test_another_model_of_the_same_owner_in_its_place(host: Host, bundle: Path) -> None:
    """With one model's folder in another's place, a floor on versions would mean nothing."""
    start = host.start(bundle, model_id="other", model_key=KEYS.model_key)
    assert (start.status, start.said) == (1, MESSAGE)
    assert start.loaded_nothing


def test_bundle_of_somebody_else_who_has_the_model_key(
    host: Host, chain_folder: ModelFolder, tmp_path: Path
) -> None:
    thief = BundleKeys(KEYS.model_key, OTHER_KEYS.owner)
    foreign = folders.make_bundle(chain_folder, tmp_path / "foreign.bundle", keys=thief)
    start = host.start(foreign)
    assert (start.status, start.said) == (1, MESSAGE)
    assert start.loaded_nothing


def test_manifest_edited_and_signed_by_somebody_else(host: Host, bundle: Path) -> None:
    folders.edit_manifest(bundle, lambda m: m.update(budget_bytes=1 << 30), OTHER_KEYS.owner)
    start = host.start(bundle)
    assert (start.status, start.said) == (1, MESSAGE)
    assert start.loaded_nothing


def test_signature_without_its_prefix(host: Host, bundle: Path) -> None:
    """A signature that the owner's key made for something else doesn't fit a manifest."""
    raw = (bundle / "manifest.json").read_bytes()
    (bundle / "manifest.sig").write_bytes(KEYS.owner.sign(raw))
    start = host.start(bundle)
    assert (start.status, start.said) == (1, MESSAGE)


def test_older_version(host: Host, bundle: Path) -> None:
    assert host.start(bundle, minimum_version=3).status == 0
    start = host.start(bundle, minimum_version=4)
    assert (start.status, start.said) == (1, MESSAGE)
    assert start.loaded_nothing


def test_manifest_of_a_newer_version_around_old_objects(
    host: Host, bundle: Path, chain_folder: ModelFolder, tmp_path: Path
) -> None:
    newer = folders.make_bundle(chain_folder, tmp_path / "newer.bundle", version=4)
    for name in ("manifest.json", "manifest.sig"):
        (bundle / name).write_bytes((newer / name).read_bytes())
    start = host.start(bundle, minimum_version=4)
    assert (start.status, start.said) == (1, MESSAGE)
    assert start.loaded_nothing


EDITS: list[tuple[dict[str, Any], str]] = [
    ({"extra": 1}, "unknown field(s) 'extra'"),
    ({"format_version": 3}, "format version 3: this appliance reads versions 1 and 2"),
    ({"format_version": 0}, "format version 0"),
    ({"released_at": "yesterday"}, "released_at: expected a time as"),
    ({"onnxruntime": "0.1", "optimization": "all"}, "optimised for onnxruntime 0.1"),
    ({"chunk_bytes": 1 << 40}, "chunk_bytes"),
    ({"card_bytes": 1 << 40}, "card_bytes"),
    ({"partitions": [{"structure_bytes": 1 << 50, "weights_bytes": 0}]}, "structure_bytes"),
]
"""Signed by the right owner, so the message may say what is wrong."""


@pytest.mark.parametrize(("edit", "said"), EDITS)
def test_signed_manifest_that_is_out_of_form(
    host: Host, bundle: Path, edit: dict[str, Any], said: str
) -> None:
    folders.edit_manifest(bundle, lambda manifest: manifest.update(edit))
    start = host.start(bundle)
    assert start.status == 1
    assert said in start.said
    assert "Traceback" not in start.said
    assert start.loaded_nothing


SIZES: list[dict[str, Any]] = [
    {"model": {"id": "chain", "version": 9}},
    {"bundle_id": "00" * 32},
    {"card_bytes": 1 << 24},
    {"partitions": [{"structure_bytes": 1 << 40, "weights_bytes": 1 << 40}]},
    {"partitions": [{"structure_bytes": 5, "weights_bytes": 1 << 40}] * 4},
    {"partitions": [{"structure_bytes": 1 << 40, "weights_bytes": 0}] * 100_000},
]
"""Of the right form, but not what the objects are; some ask for a terabyte of memory."""


@pytest.mark.parametrize("edit", SIZES)
def test_signed_manifest_that_does_not_describe_its_objects(
    host: Host, bundle: Path, edit: dict[str, Any]
) -> None:
    folders.edit_manifest(bundle, lambda manifest: manifest.update(edit))
    start = host.start(bundle)
    assert (start.status, start.said) == (1, MESSAGE)
    assert start.loaded_nothing


@pytest.mark.parametrize("dropped", [0, 3])
def test_signed_manifest_with_one_partition_less(host: Host, bundle: Path, dropped: int) -> None:
    """The count is bound to every object, so even the owner can't drop one by accident."""
    folders.edit_manifest(bundle, lambda manifest: manifest["partitions"].pop(dropped))
    start = host.start(bundle)
    assert (start.status, start.said) == (1, MESSAGE)
    assert start.loaded_nothing


def test_writing_twice_repeats_nothing(chain_folder: ModelFolder, tmp_path: Path) -> None:
    """Same model, version and key: a repeated (key, nonce) pair would show as equal bytes."""
    one, two = (
        folders.make_bundle(chain_folder, tmp_path / f"{name}.bundle") for name in ("one", "two")
    )
    ids = {folders.read_manifest_text(each)["bundle_id"] for each in (one, two)}
    assert len(ids) == 2
    first, second = folders.files(one), folders.files(two)
    assert first.keys() == second.keys()
    for name in first:
        blocks = {first[name][start : start + 16] for start in range(0, len(first[name]) - 15, 16)}
        if name.endswith(".enc"):
            assert not any(
                second[name][start : start + 16] in blocks
                for start in range(0, len(second[name]) - 15, 16)
            )


def test_ciphertext_shows_nothing_of_the_model(
    chain_bundle: Path, chain_folder: ModelFolder
) -> None:
    weights = chain_folder.partition_path(0).read_bytes()
    everything = b"".join(folders.files(chain_bundle).values())
    assert weights[500:532] not in everything
    for word in (b"MatMul", b"onnx.", b"float32"):
        assert word not in everything
