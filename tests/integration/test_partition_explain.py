"""tools/partition.py --explain and --measure, in process; what is measured runs in others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests import folders, models
from tools.commands.partition import main
from tools.planner.explain import alone_bytes
from tools.planner.plan import read_plan


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights that stream, and some that stay."""
    folder = tmp_path_factory.mktemp("planned")
    source = models.save(models.wide_chain(12, 256), folder / "wide.onnx")
    words = ["-o", str(folder / "wide"), "--budget", "4800KiB", "--optimization", "none"]
    assert main([str(source), *words, "--quiet"]) == 0
    return folder / "wide"


@pytest.fixture
def folder(planned: Path, tmp_path: Path) -> Path:
    return folders.copy(planned, tmp_path / "wide")


def plan_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "plan.json").read_text())
    return found


def test_no_prediction_is_below_its_measurement(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = plan_of(folder)
    assert len(before["partitions"]) > 1
    assert main([str(folder), "--measure"]) == 0
    plan = read_plan(folder / "plan.json")
    for partition in plan.partitions:
        assert partition.measured_bytes is not None
        assert 0 < partition.measured_bytes <= alone_bytes(plan, partition)
    assert plan.measured_bytes is not None
    assert 0 < plan.measured_bytes <= plan.peak_bytes <= plan.budget_bytes
    out = capsys.readouterr().out
    assert "the whole run" in out
    assert "too low" not in out
    after = plan_of(folder)
    for each in (after, *after["partitions"]):
        each["measured_bytes"] = None
    assert after == before, "measuring changes nothing else"


def test_a_prediction_that_is_too_low_is_a_no(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders.edit_json(folder / "plan.json", lambda plan: plan.update(peak_bytes=1000))
    assert main([str(folder), "--measure", "--quiet"]) == 1
    out = capsys.readouterr().out
    assert out.startswith("predicted too low: the whole run: 1000 bytes, measured ")
    assert out.count("\n") == 1
    assert plan_of(folder)["measured_bytes"] > 1000


def test_other_partitions_than_the_plans_are_not_measured(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "001.onnx").write_bytes((folder / "000.onnx").read_bytes())
    before = plan_of(folder)
    assert main([str(folder), "--measure"]) == 2
    assert "001.onnx: not the file" in capsys.readouterr().err
    assert plan_of(folder) == before


def test_explaining_a_folder_draws_and_changes_no_plan(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = folders.files(folder)
    assert main([str(folder), "--explain"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "cross here" in out
    assert "the model ends here" in out
    assert "pass through" in out
    assert set(folders.files(folder)) - set(before) == {"plan.svg", "plan.png"}
    assert (folder / "plan.json").read_bytes() == before["plan.json"]


def test_a_dry_run_explains_and_writes_nothing(
    planned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = str(planned / "model.onnx")
    assert main([source, "--dry-run", "--explain", "--budget", "4800KiB"]) == 0
    assert "the model ends here" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
    assert "plan.svg" not in folders.files(planned)


@pytest.mark.parametrize(
    "words",
    [
        ["{folder}"],
        ["{folder}", "--explain", "-o", "x"],
        ["{folder}", "--explain", "--dry-run"],
        ["{folder}/model.onnx"],
        ["{folder}/model.onnx", "--dry-run", "--measure"],
    ],
)
def test_wrong_usage(planned: Path, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    before = folders.files(planned)
    with pytest.raises(SystemExit) as error:
        main([word.format(folder=planned) for word in words])
    assert error.value.code == 2
    assert "usage: tools/partition.py" in capsys.readouterr().err
    assert folders.files(planned) == before
