from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import folders, models
from tools.errors import ModelError
from tools.model_folder import ModelFolder, changed_files, find_folders, open_folder


def test_folder_holds_the_whole_model_unchanged(tmp_path: Path) -> None:
    folder = folders.make_folder(models.chain(), tmp_path / "chain", count=3)
    source = tmp_path / "chain.source" / "model.onnx"
    assert folder.model_path.read_bytes() == source.read_bytes()
    assert sorted(folders.files(folder.path)) == [
        "000.onnx",
        "001.onnx",
        "002.onnx",
        "model.json",
        "model.onnx",
        "plan.json",
    ]
    assert changed_files(folder) == []
    assert (folder.model_id, folder.model_version) == ("chain", 1)


def test_external_data_comes_along(tmp_path: Path) -> None:
    folder = folders.make_folder(models.chain(), tmp_path / "chain", count=2, external=True)
    names = set(folders.files(folder.path))
    assert "data-0.bin" in names
    assert "weights.bin" not in names, "no name of the supplier's"
    assert changed_files(folder) == []
    raw = bytearray((folder.path / "data-0.bin").read_bytes())
    raw[0] ^= 1
    (folder.path / "data-0.bin").write_bytes(raw)
    (problem,) = changed_files(folder)
    assert problem.startswith("data-0.bin: not the file")


def test_planning_again_keeps_what_the_owner_wrote(
    classifier_folder: ModelFolder, tmp_path: Path
) -> None:
    path = folders.copy(classifier_folder.path, tmp_path / "shapes")
    (path / "002.onnx.data").touch()
    again = folders.make_folder(models.classifier(), path, count=2)
    assert again.purpose == classifier_folder.purpose
    assert again.samples().keys() == {path / "samples" / "0.png", path / "samples" / "1.png"}
    assert not (path / "002.onnx").exists()


@pytest.mark.parametrize("name", ["Über", "x y", "-x", "x" * 65])
def test_folder_whose_name_is_no_model_id(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelError, match="can't be a model's id"):
        folders.make_folder(models.chain(), tmp_path / name)
    assert not (tmp_path / name).exists()


def test_something_else_is_not_replaced(tmp_path: Path) -> None:
    target = tmp_path / "chain"
    target.mkdir()
    (target / "thesis.txt").write_text("years")
    with pytest.raises(ModelError, match="isn't a model's folder, so it isn't replaced"):
        folders.make_folder(models.chain(), target)
    assert folders.files(target) == {"thesis.txt": b"years"}


@pytest.mark.parametrize("file", ["model.onnx", "000.onnx", "002.onnx"])
def test_changed_and_missing_files_are_named(
    classifier_folder: ModelFolder, tmp_path: Path, file: str
) -> None:
    folder = open_folder(folders.copy(classifier_folder.path, tmp_path / "m"))
    path = folder.path / file
    path.write_bytes(path.read_bytes() + b"\0")
    [problem] = changed_files(folder)
    assert problem.startswith(f"{file}: not the file")
    path.unlink()
    assert changed_files(folder) == [f"{file}: No such file or directory"]


CARDS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "format": (lambda card: card.update(format=2), "model.format"),
    "id": (lambda card: card.update(id="../x"), "model.id"),
    "version": (lambda card: card.update(version="1"), "model.version"),
    "unknown field": (lambda card: card.update(extra=1), "unknown field"),
    "no title": (lambda card: card.pop("title"), "title"),
}


@pytest.mark.parametrize("change", CARDS)
def test_card_that_is_wrong(classifier_folder: ModelFolder, tmp_path: Path, change: str) -> None:
    path = folders.copy(classifier_folder.path, tmp_path / "m")
    edit, said = CARDS[change]
    folders.edit_json(path / "model.json", edit)
    with pytest.raises(ModelError, match=said) as error:
        open_folder(path)
    assert str(path / "model.json") in str(error.value)


@pytest.mark.parametrize("file", ["model.json", "plan.json"])
def test_folder_without(classifier_folder: ModelFolder, tmp_path: Path, file: str) -> None:
    path = folders.copy(classifier_folder.path, tmp_path / "m")
    (path / file).unlink()
    with pytest.raises(ModelError, match=rf"{file}: .*tools/partition.py"):
        open_folder(path)


def test_a_card_that_was_lost_is_written_anew(
    classifier_folder: ModelFolder, tmp_path: Path
) -> None:
    path = folders.copy(classifier_folder.path, tmp_path / "m")
    (path / "model.json").unlink()
    folder = folders.make_folder(models.classifier(), path, count=2)
    assert folder.model_id == "m"
    assert folder.purpose.labels == ()


def test_a_card_that_is_broken_is_said_before_anything_is_replaced(
    classifier_folder: ModelFolder, tmp_path: Path
) -> None:
    path = folders.copy(classifier_folder.path, tmp_path / "m")
    (path / "model.json").write_text('{"format": 1')
    before = folders.files(path)
    with pytest.raises(ModelError, match=r"model\.json: .*what clients may know of the model"):
        folders.make_folder(models.classifier(), path, count=2)
    assert folders.files(path) == before


def test_folders_are_found_here_and_one_below(chain_folder: ModelFolder, tmp_path: Path) -> None:
    for name in ("b", "a"):
        folders.copy(chain_folder.path, tmp_path / name)
    (tmp_path / "notes").mkdir()
    assert find_folders(tmp_path) == [tmp_path / "a", tmp_path / "b"]
    assert find_folders(tmp_path / "b") == [tmp_path / "b"]


def test_no_folder_is_found(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no model in it"):
        find_folders(tmp_path)
    with pytest.raises(ModelError, match="isn't a folder"):
        find_folders(tmp_path / "nowhere")
