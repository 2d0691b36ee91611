"""tools/check_accuracy.py, in process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from app.engine import WholeModel
from tests import folders
from tests.integration.appliance import DIGITS, prepare, running
from tools.accuracy.data.columns import Column
from tools.accuracy.ladder import climb
from tools.accuracy.rungs import ModelReport
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
    assert "partition 1 (001.onnx), operator " in err
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
    assert main([str(tmp_path / arguments[0]), *arguments[1:]]) == 2
    assert said in capsys.readouterr().err


def test_committed_models_pass(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(DIGITS.parent), "--model", "digits", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


def test_the_committed_test_set_gives_the_accuracy_that_is_claimed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One command: the card's accuracy, measured on the deployed partitions."""
    claimed = json.loads((DIGITS / "model.json").read_text())["training"]
    page = tmp_path / "out" / "digits.html"
    data = DIGITS / "samples" / "test_set.npz"
    arguments = ["--data", str(data), "--max-drop", "0%", "--report", str(page), "--json"]
    assert main([str(DIGITS), *arguments]) == 0
    [model] = json.loads(capsys.readouterr().out)["models"]
    found = model["evaluation"]["classification"]
    for share in (found["reference_top1"], found["partitions_top1"]):
        assert round(share["value"], 4) == claimed["accuracy"]["test"]
        assert share["total"] == claimed["split"]["test"] == model["evaluation"]["examples"]
    assert page.read_text(encoding="utf-8").count("data:image/svg+xml") == 4


def test_strays_are_notes_and_no_failures(
    partitions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (partitions / "junk").mkdir()
    (partitions / "shapes" / "009.onnx").write_bytes(b"")
    assert main([str(partitions)]) == 0
    err = capsys.readouterr().err
    assert "in junk, so not checked" in err
    assert "note: shapes: not part of the plan, nothing reads it: 009.onnx" in err
    assert main([str(partitions), "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


def write_test_data(partitions: Path, folder: Path, error: float = 0.0) -> Path:
    """Writes what the whole model computes as an ONNX test_data_set folder."""
    inputs = {"image": np.random.default_rng(4).random((1, 1, 8, 8), dtype=np.float32)}
    outputs = WholeModel(partitions / "shapes" / "model.onnx", "none").run(inputs)
    for role, arrays in (("input", inputs), ("output", outputs)):
        [(name, array)] = arrays.items()
        tensor = numpy_helper.from_array(array + np.float32(error * (role == "output")), name)
        path = folder / "test_data_set_0" / f"{role}_0.pb"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tensor.SerializeToString())
    return folder


def test_onnx_test_data_decide(
    partitions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(partitions / "shapes")
    good = write_test_data(partitions, tmp_path / "good")
    assert main([model, "--data", str(good), "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    bad = write_test_data(partitions, tmp_path / "bad", error=0.1)
    assert main([model, "--data", str(bad), "--quiet"]) == 1
    err = capsys.readouterr().err
    assert "FAILED on the data: test_data_set_0, whole model, output 'scores'" in err
    assert "FAILED on the data: test_data_set_0, partitions, output 'scores'" in err
    assert main([model, "--data", str(bad), "--quiet", "--atol", "0.2"]) == 0


def test_quantised_partitions_against_the_original(
    partitions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Partitions of a changed model hold on every rung; only the data tell that it is worse."""
    folders.change_weight(partitions / "shapes" / "model.onnx", 0)
    original = partitions / "shapes" / "model.onnx"
    images = np.random.default_rng(4).standard_normal((40, 1, 8, 8), dtype=np.float32)
    best = WholeModel(original, "none").run({"image": images})["scores"].argmax(axis=1)
    data = tmp_path / "data.npz"
    np.savez(data, image=images, labels=best)
    worse = onnx.load(original)
    weight = max(worse.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    array = numpy_helper.to_array(weight)
    weight.CopyFrom(numpy_helper.from_array(np.round(array * 8) / np.float32(8), weight.name))
    changed = folders.make_folder(worse, tmp_path / "changed", count=3)
    arguments = [str(changed.path), "--data", str(data), "--reference", str(original), "--json"]
    assert main([*arguments, "--max-drop", "100%"]) == 0
    [model] = json.loads(capsys.readouterr().out)["models"]
    drop = model["evaluation"]["classification"]["drop"]
    assert 0 < drop["value"] <= drop["high"]
    assert main([*arguments, "--max-drop", "0%"]) == 1
    [model] = json.loads(capsys.readouterr().out)["models"]
    assert [rung["passed"] for rung in model["rungs"]] == [True] * 4
    assert "top-1 drops by" in model["evaluation"]["problems"][0]


def test_ctrl_c_keeps_what_is_finished(
    partitions: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = tmp_path / "data.npz"
    np.savez(data, image=np.ones((20, 1, 8, 8), np.float32))
    read, rows = Column.read, []

    def interrupted(self: Column, count: int) -> Any:
        rows.append(count)
        if len(rows) > 10:
            raise KeyboardInterrupt
        return read(self, count)

    monkeypatch.setattr(Column, "read", interrupted)
    assert main([str(partitions / "shapes"), "--data", str(data), "--json"]) == 130
    out, err = capsys.readouterr()
    [model] = json.loads(out)["models"]
    assert model["evaluation"]["complete"] is False
    assert model["evaluation"]["examples"] == 8
    assert model["passed"] is False
    assert err.splitlines()[-1] == "stopped"


def test_ctrl_c_keeps_the_models_before(
    partitions: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(folder: ModelFolder, *arguments: Any) -> ModelReport:
        if folder.path.name == "shapes":
            raise KeyboardInterrupt
        return climb(folder, *arguments)

    monkeypatch.setattr("tools.commands.check_accuracy.climb", interrupted)
    assert main([str(partitions), "--json"]) == 130
    out, err = capsys.readouterr()
    answer = json.loads(out)
    assert (answer["passed"], answer["stopped"]) == (False, True)
    assert [(model["name"], model["passed"]) for model in answer["models"]] == [("chain", True)]
    assert err == "stopped\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--url", "https://localhost:1"], "--url and --cacert belong together"),
        (["--cacert", "c.pem"], "--url and --cacert belong together"),
        (["--url", "http://localhost:1", "--cacert", "c.pem"], "expected https://HOST:PORT"),
        (["--token-file", "token"], "--token-file needs --url"),
        (["--max-drop", "1%"], "need --data"),
        (["--reference", "m.onnx"], "need --data"),
        (["--data", "d", "--max-drop", "0.5"], "expected a percentage from 0% to 100%"),
        (["--data", "d", "--max-drop=-1%"], "expected a percentage"),
        (["--data", "d", "--max-drop", "nan%"], "expected a percentage"),
        (["--data", "d", "--rtol", "-1"], "expected a number from 0"),
        (["--data", "d", "--atol", "inf"], "expected a number from 0"),
    ],
)
def test_wrong_usage(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["nowhere", *arguments])
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


def test_data_are_for_one_model(partitions: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(partitions), "--data", "d.npz"]) == 2
    assert "choose one with --model: chain, shapes" in capsys.readouterr().err
    assert main([str(partitions), "--model", "shapes", "--data", "d.npz", "--quiet"]) == 1
    assert "shapes: FAILED: d.npz: expected an .npz file" in capsys.readouterr().err


def test_through_tls(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with running(prepare(tmp_path)) as appliance:
        arguments = ["--url", appliance.url, "--cacert", str(appliance.certificate), "--json"]
        assert main([str(DIGITS), *arguments]) == 0
        [model] = json.loads(capsys.readouterr().out)["models"]
        tls = model["rungs"][-1]
        assert (tls["name"], tls["passed"], tls["relative"]) == ("tls", True, 0)
        assert tls["cases"] >= 20
        other = folders.copy(DIGITS, tmp_path / "models" / "digits")
        folders.edit_json(other / "model.json", lambda card: card.update(version=2))
        assert main([str(other), *arguments[:-1], "--quiet"]) == 1
        assert "FAILED at rung tls" in (err := capsys.readouterr().err)
        assert "the folder has version 2" in err
        folders.edit_json(other / "model.json", lambda card: card.update(id="letters"))
        assert main([str(other), *arguments[:-1], "--quiet"]) == 1
        assert "there is no model 'letters'" in capsys.readouterr().err
