"""tools/partition.py, in process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests import folders, models
from tools.commands.partition import main
from tools.model_folder import open_folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return models.save(models.residual(), tmp_path / "residual.onnx")


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    return models.save(models.wide_chain(), tmp_path / "wide.onnx")


def plan_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "plan.json").read_text())
    return found


def test_budget(wide: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "partitions" / "wide"
    assert main([str(wide), "-o", str(target), "--budget", "3200KiB"]) == 0
    plan = json.loads((target / "plan.json").read_text())
    assert plan["budget_bytes"] == 3200 << 10
    assert len(plan["partitions"]) > 1
    assert "predicted peak" in capsys.readouterr().out
    assert set(folders.files(target)) == {
        "model.onnx",
        "model.json",
        "plan.json",
        *(each["file"] for each in plan["partitions"]),
    }


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--objective", "partitions"],
        ["--threads", "2"],
        ["--lock-step", "4"],
        ["--optimization", "none"],
        ["--optimization", "all"],
    ],
)
def test_same_model_and_options_give_the_same_folder(
    wide: Path, tmp_path: Path, options: list[str]
) -> None:
    for parent in ("one", "two"):
        target = tmp_path / parent / "wide"
        words = [str(wide), "-o", str(target), "--budget", "3200KiB", "--quiet", *options]
        assert main(words) == 0
    assert folders.files(tmp_path / "one") == folders.files(tmp_path / "two")
    assert plan_of(tmp_path / "one" / "wide")["peak_bytes"] <= 3200 << 10


def test_fewest_partitions_are_never_more_than_the_fastest(wide: Path, tmp_path: Path) -> None:
    counts = {}
    for objective in ("time", "partitions"):
        target = tmp_path / objective
        words = ["--budget", "3200KiB", "--quiet", "--objective", objective]
        assert main([str(wide), "-o", str(target), *words]) == 0
        counts[objective] = len(plan_of(target)["partitions"])
    assert 1 < counts["partitions"] <= counts["time"]


def test_large_operators_are_tiled_for_a_budget_and_left_alone_for_a_count(tmp_path: Path) -> None:
    wide = models.save(models.wide_chain(6, 400), tmp_path / "wide.onnx")
    one, two = tmp_path / "one", tmp_path / "two"
    options = ["--optimization", "none", "--quiet"]
    assert main([str(wide), "-o", str(one), "--budget", "3700KiB", *options]) == 0
    assert main([str(wide), "-o", str(two), "--partitions", "2", *options]) == 0
    assert plan_of(one)["tile_bytes"] == (3700 << 10) // 6
    assert plan_of(one)["partitions"][-1]["nodes"][1] > 12
    assert plan_of(two)["tile_bytes"] is None
    assert plan_of(two)["partitions"][-1]["nodes"][1] == 12


@pytest.mark.parametrize("optimization", ["none", "extended", "all"])
def test_optimisation_is_in_the_plan(source: Path, tmp_path: Path, optimization: str) -> None:
    target = tmp_path / "m"
    words = ["--optimization", optimization, "--quiet"]
    assert main([str(source), "-o", str(target), *words]) == 0
    plan = plan_of(target)
    assert plan["optimization"] == optimization
    assert (plan["cpu"] == "any") == (optimization != "all")


def test_count_in_place_and_quiet(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "m"
    assert main([str(source), "-o", str(target), "--partitions", "3"]) == 0
    capsys.readouterr()
    again = [str(target / "model.onnx"), "-o", str(target), "--partitions", "5", "--quiet"]
    assert main(again) == 0
    assert capsys.readouterr() == ("", "")
    assert (target / "004.onnx").exists()
    assert (target / "model.onnx").read_bytes() == source.read_bytes()


@pytest.mark.parametrize("how", [["--budget", "3200KiB"], ["--partitions", "3"]])
def test_lock_step_is_planned_for_and_said(
    wide: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], how: list[str]
) -> None:
    target = tmp_path / "m"
    assert main([str(wide), "-o", str(target), "--lock-step", "4", "--explain", *how]) == 0
    plan = plan_of(target)
    assert plan["lock_step"] == 4
    assert plan["peak_bytes"] <= plan["budget_bytes"]
    out = capsys.readouterr().out
    assert "predicted peak with 4 requests in lock step" in out
    assert "for 4 requests in lock step: structures" in out


def test_dimension(source: Path, tmp_path: Path) -> None:
    options = ["-o", str(tmp_path / "m"), "--dim", "batch=8", "--quiet"]
    assert main([str(source), *options]) == 0
    plan = json.loads((tmp_path / "m" / "plan.json").read_text())
    assert plan["dimensions"] == {"batch": 8}


@pytest.mark.parametrize(
    "options",
    [
        ["--budget", "85"],
        ["--budget", "0MiB"],
        ["--budget", "-5MiB"],
        ["--budget=-5MiB"],
        ["--budget", "85MB"],
        ["--partitions", "0"],
        ["--partitions", "-1"],
        ["--partitions", "two"],
        ["--partitions", "2", "--budget", "85MiB"],
        ["--threads", "0"],
        ["--lock-step", "0"],
        ["--lock-step", "65"],
        ["--objective", "memory"],
        ["--optimization", "fast"],
        ["--dim", "batch"],
        ["--dim", "batch=0"],
        ["--dim", "=3"],
        ["--unknown"],
    ],
)
def test_wrong_usage_writes_nothing(
    source: Path, tmp_path: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as error:
        main([str(source), "-o", str(tmp_path / "m"), *options])
    assert error.value.code == 2
    assert "usage: tools/partition.py" in capsys.readouterr().err
    assert not (tmp_path / "m").exists()


def check_refused(
    source: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    *options: str,
    status: int = 2,
) -> str:
    """One line that begins with "error:", its exit status, and nothing was written."""
    before = folders.files(tmp_path)
    assert main([str(source), "-o", str(tmp_path / "out" / "m"), *options]) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert folders.files(tmp_path) == before
    return err


def test_the_models_id_is_said(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is what clients ask for and what the key file is named after, not the folder's name."""
    target = tmp_path / "MyNet-1.0"
    assert main([str(source), "-o", str(target), "--partitions", "2"]) == 0
    assert "the model's id is mynet-1.0: " in capsys.readouterr().out
    assert open_folder(target).model_id == "mynet-1.0"


def test_operator_above_the_budget(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = models.save(models.heavy_middle(), tmp_path / "m.onnx")
    said = check_refused(source, tmp_path, capsys, "--budget", "100KiB", status=1)
    assert "operator 'heavy tile " in said, "it was tiled, as far as that goes"
    assert "the model runs in " in said
    assert "the budget is 102400 bytes" in said


@pytest.mark.parametrize("content", [None, b"", b"text", b"\x08\x08"])
def test_no_model(
    tmp_path: Path, content: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "m.onnx"
    if content is not None:
        source.write_bytes(content)
    assert str(source) in check_refused(source, tmp_path, capsys)


def test_external_data_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = models.save_external(models.chain(), tmp_path / "in" / "m.onnx")
    (tmp_path / "in" / "weights.bin").unlink()
    assert "weights.bin" in check_refused(source, tmp_path, capsys)


def test_external_data_outside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = models.save_external(models.chain(), tmp_path / "in" / "m.onnx")
    (tmp_path / "in" / "weights.bin").rename(tmp_path / "secret")
    (tmp_path / "in" / "weights.bin").symlink_to(tmp_path / "secret")
    check_refused(source, tmp_path, capsys)


def test_answer_that_is_no_tensor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = models.save(models.sequence_output(), tmp_path / "m.onnx")
    assert "'y' is of Sequence" in check_refused(source, tmp_path, capsys)


def test_too_many_partitions(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = check_refused(source, tmp_path, capsys, "--partitions", "99")
    assert "at most 16 partitions" in said


def test_unknown_dimension(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "it has batch" in check_refused(source, tmp_path, capsys, "--dim", "time=3")


def test_target_that_cannot_be_written(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert main([str(source), "-o", str(tmp_path / "file" / "m")]) == 3
    assert "error: " in capsys.readouterr().err
