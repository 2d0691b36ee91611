"""tools/check_accuracy.py, in process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests import folders
from tools.commands.check_accuracy import main
from tools.model_folder import ModelFolder


@pytest.fixture
def partitions(chain_folder: ModelFolder, classifier_folder: ModelFolder, tmp_path: Path) -> Path:
    """A folder with two models, elsewhere than in the repository."""
    target = tmp_path / "models"
    folders.copy(chain_folder.path, target / "chain")
    folders.copy(classifier_folder.path, target / "shapes")
    return target


def test_every_model_of_a_folder(partitions: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(partitions)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for word in ("chain: 4 partitions", "shapes: 3 partitions", "bit-exact", "2 labelled pictures"):
        assert word in out


@pytest.mark.parametrize("arguments", [["--model", "shapes"], []])
def test_one_model(
    partitions: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = partitions if arguments else partitions / "shapes"
    assert main([str(path), "--json", *arguments]) == 0
    [report] = json.loads(capsys.readouterr().out)["models"]
    assert report["name"] == "shapes"


def test_json_tells_everything(partitions: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(partitions), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["passed"] is True
    assert [model["name"] for model in answer["models"]] == ["chain", "shapes"]
    rungs = answer["models"][1]["rungs"]
    assert [rung["name"] for rung in rungs] == ["files", "cut", "format", "deployed"]
    assert all(rung["passed"] for rung in rungs)
    assert rungs[1]["absolute"] == 0


def test_one_changed_weight(partitions: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders.change_weight(partitions / "shapes" / "001.onnx")
    assert main([str(partitions), "--quiet"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "shapes: FAILED at rung files: 001.onnx" in err
    assert "shapes: FAILED at rung cut" in err
    assert "partition 1 (001.onnx), tensor " in err
    assert "chain" not in err


def test_changed_weight_in_json(partitions: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders.change_weight(partitions / "chain" / "003.onnx", float("nan"))
    assert main([str(partitions), "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["passed"] is False
    chain, shapes = answer["models"]
    assert (chain["passed"], shapes["passed"]) == (False, True)
    assert [rung["passed"] for rung in chain["rungs"]] == [False, False, None, None]
    assert chain["rungs"][1]["absolute"] is None, "JSON has no infinity"


def test_broken_model_does_not_hide_the_others(
    partitions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (partitions / "chain" / "plan.json").unlink()
    assert main([str(partitions), "--json"]) == 1
    chain, shapes = json.loads(capsys.readouterr().out)["models"]
    assert "plan.json" in chain["error"]
    assert shapes["passed"]


@pytest.mark.parametrize("name", ["model.onnx", "model.json", "plan.json", "000.onnx"])
@pytest.mark.parametrize("content", [None, b"", b"\xffgarbage"])
def test_broken_folder(
    partitions: Path, name: str, content: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    path = partitions / "shapes" / name
    path.unlink() if content is None else path.write_bytes(content)
    assert main([str(partitions / "shapes"), "--quiet"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("shapes: FAILED")
    assert name in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "isn't a folder"),
        (["empty"], "no model in it"),
        (["models", "--model", "other"], "no model 'other' there, only chain, shapes"),
    ],
)
def test_nothing_to_check(
    partitions: Path,
    tmp_path: Path,
    arguments: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "empty").mkdir()
    assert partitions.exists()
    assert main([str(tmp_path / arguments[0]), *arguments[1:]]) == 1
    assert said in capsys.readouterr().err


def test_committed_models_pass(capsys: pytest.CaptureFixture[str]) -> None:
    root = Path(__file__).parents[2]
    assert main([str(root / "partitions"), "--model", "digits", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
