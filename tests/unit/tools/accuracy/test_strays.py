"""What belongs to nothing is named; what belongs isn't."""

from __future__ import annotations

from pathlib import Path

from tests import folders, models
from tools.accuracy.strays import stray_files, stray_folders
from tools.model_folder import ModelFolder, open_folder


def test_a_folder_as_it_is_written_has_none(classifier_folder: ModelFolder) -> None:
    assert stray_files(classifier_folder) == []


def test_external_data_belong_to_the_model(tmp_path: Path) -> None:
    folder = folders.make_folder(models.chain(), tmp_path / "m", external=True)
    assert stray_files(folder) == []


def test_an_old_partition_is_one(classifier_folder: ModelFolder, tmp_path: Path) -> None:
    path = folders.copy(classifier_folder.path, tmp_path / "m")
    (path / "003.onnx").write_bytes(b"")
    assert stray_files(open_folder(path)) == ["not part of the plan, nothing reads it: 003.onnx"]


def test_many_are_counted(classifier_folder: ModelFolder, tmp_path: Path) -> None:
    path = folders.copy(classifier_folder.path, tmp_path / "m")
    for number in range(10, 18):
        (path / f"{number:03}.onnx").write_bytes(b"")
    [said] = stray_files(open_folder(path))
    assert said.endswith("010.onnx, 011.onnx, 012.onnx, 013.onnx, 014.onnx and 3 more")


def test_folders_without_a_model(tmp_path: Path) -> None:
    for name in ("one", "two", "junk"):
        (tmp_path / name).mkdir()
    (tmp_path / "README.md").write_text("x")
    chosen = [tmp_path / "one", tmp_path / "two"]
    [said] = stray_folders(tmp_path, chosen)
    assert "no plan.json or model.onnx in junk, so not checked" in said
    assert stray_folders(tmp_path / "one", [tmp_path / "one"]) == []
