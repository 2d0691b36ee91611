from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from app.bundle import BundleReader, read_manifest
from app.manifest import OPTIMIZATIONS
from tests import folders, models
from tests.folders import KEYS
from tools.bundling.writer import write_bundle
from tools.errors import ModelError
from tools.model_folder import ModelFolder, open_folder


def write(folder: ModelFolder, target: Path) -> None:
    write_bundle(folder, KEYS, target, progress=lambda _: None)


@pytest.mark.parametrize("optimization", OPTIMIZATIONS)
def test_bundle_opens_and_says_how_it_was_optimised(tmp_path: Path, optimization: str) -> None:
    folder = folders.make_folder(
        models.classifier(), tmp_path / "shapes", count=3, optimization=optimization
    )
    write(folder, tmp_path / "b")
    manifest = read_manifest(tmp_path / "b", KEYS.owner.public_key(), minimum_version=1)
    reader = BundleReader(tmp_path / "b", manifest, KEYS.model_key)
    reader.verify()
    assert manifest.optimization == optimization
    assert manifest.budget_bytes == folder.plan.budget_bytes
    assert reader.read_card() == folder.card


def test_changed_partition_is_not_encrypted(chain_folder: ModelFolder, tmp_path: Path) -> None:
    folder = open_folder(folders.copy(chain_folder.path, tmp_path / "chain"))
    folders.change_weight(folder.partition_path(2))
    with pytest.raises(ModelError, match=r"002\.onnx: not the file that plan\.json"):
        write(folder, tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_something_else_is_not_replaced(chain_folder: ModelFolder, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "thesis.txt").write_text("years")
    with pytest.raises(ModelError, match="isn't a bundle, so it isn't replaced"):
        write(chain_folder, tmp_path / "b")
    assert folders.files(tmp_path) == {"b/thesis.txt": b"years"}


@pytest.mark.parametrize("there", [True, False])
def test_failure_on_the_way_leaves_what_was_there(
    chain_folder: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    target = tmp_path / "b"
    if there:
        write(chain_folder, target)
    before = folders.files(tmp_path)
    written = 0

    def stop(index: int) -> None:
        nonlocal written
        written = index
        if index == 3:
            raise OSError(28, os.strerror(28))

    with pytest.raises(OSError, match="No space left"):
        write_bundle(chain_folder, KEYS, target, progress=stop)
    assert written == 3
    assert folders.files(tmp_path) == before


def test_objects_are_named_by_place_alone(chain_folder: ModelFolder, tmp_path: Path) -> None:
    write(replace(chain_folder, model_id="other"), tmp_path / "b")
    names = sorted(folders.files(tmp_path / "b"))
    assert names[0] == "00000.structure.enc"
    assert not any("other" in name or "chain" in name for name in names)
