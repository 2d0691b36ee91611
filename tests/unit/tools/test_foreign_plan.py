"""Plans that don't belong to their folder, and plans that somebody edited."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.engine import OrtEngine
from app.errors import ApplianceError, ExecutionError
from app.runner import Runner
from tests import folders, models
from tools.accuracy.readers import FolderReader
from tools.bundling.writer import write_bundle
from tools.errors import ModelError
from tools.model_folder import ModelFolder, changed_files, open_folder


@pytest.fixture
def folder(chain_folder: ModelFolder, tmp_path: Path) -> Path:
    return folders.copy(chain_folder.path, tmp_path / "chain")


def refuse_bundle(folder: Path, said: str) -> None:
    """Nothing is written when a bundle of such a folder is asked for."""
    target = folder.parent / "m.bundle"
    with pytest.raises(ModelError, match=said):
        write_bundle(open_folder(folder), folders.KEYS, target, progress=lambda _: None)
    assert not target.exists()


def test_plan_of_another_model(folder: Path, tmp_path: Path) -> None:
    other = folders.make_folder(models.residual(), tmp_path / "other", count=4)
    shutil.copyfile(other.path / "plan.json", folder / "plan.json")
    problems = changed_files(open_folder(folder))
    assert problems[0].startswith("model.onnx: ")
    assert all("partition the model again" in problem for problem in problems)
    refuse_bundle(folder, "model.onnx: not the file that plan.json was written with")


def test_partitions_of_another_run(folder: Path, tmp_path: Path) -> None:
    other = folders.make_folder(models.residual(), tmp_path / "other", count=3)
    shutil.copyfile(other.path / "001.onnx", folder / "001.onnx")
    refuse_bundle(folder, "001.onnx: not the file that plan.json was written with")


def test_partitions_that_changed_places(folder: Path) -> None:
    (folder / "001.onnx").rename(folder / "x.onnx")
    (folder / "002.onnx").rename(folder / "001.onnx")
    (folder / "x.onnx").rename(folder / "002.onnx")
    refuse_bundle(folder, "001.onnx: not the file .* 002.onnx: not the file")


def test_plan_of_another_version(folder: Path) -> None:
    folders.edit_json(folder / "plan.json", lambda plan: plan.update(format=7))
    said = "wrote format 7, this one reads format 2; 'tools/partition.py' makes it anew"
    with pytest.raises(ModelError, match=said):
        open_folder(folder)


def _boundary(plan: dict[str, Any], index: int, kind: str) -> Any:
    return plan["partitions"][index][kind]


EDITS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "another input": (
        lambda plan: _boundary(plan, 1, "inputs")[0].update(name="x"),
        "001.onnx: expected the inputs and outputs .*; it isn't the planned partition",
    ),
    "an output less": (
        lambda plan: _boundary(plan, 0, "outputs").clear(),
        "000.onnx: expected the inputs and outputs .*; it isn't the planned partition",
    ),
    "a boundary tensor released too early": (
        lambda plan: _boundary(plan, 0, "release").append(_boundary(plan, 1, "inputs")[0]["name"]),
        "isn't there by then",
    ),
    "a tensor released twice": (
        lambda plan: _boundary(plan, 2, "release").extend(_boundary(plan, 1, "release")),
        "isn't there by then",
    ),
    "another answer": (
        lambda plan: plan["outputs"][0].update(name="nowhere"),
        "isn't there by then",
    ),
}


@pytest.mark.parametrize("edit", EDITS)
def test_edited_plan_runs_nothing(folder: Path, edit: str) -> None:
    change, said = EDITS[edit]
    folders.edit_json(folder / "plan.json", change)
    with pytest.raises((ModelError, ExecutionError), match=said) as error:
        run(open_folder(folder))
    assert isinstance(error.value, ApplianceError)


def run(folder: ModelFolder) -> None:
    """Opens every partition; a request would come after it."""
    reader = FolderReader(folder)
    Runner(reader, OrtEngine(), 64 << 20, folder.plan.inputs, folder.plan.outputs)
    pytest.fail("the edited plan was accepted")
