"""tools/partition.py, in process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests import folders, models
from tools.commands.partition import main


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return models.save(models.residual(), tmp_path / "residual.onnx")


def test_budget(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "partitions" / "residual"
    assert main([str(source), "-o", str(target), "--budget", "30KiB"]) == 0
    plan = json.loads((target / "plan.json").read_text())
    assert plan["budget_bytes"] == 30 << 10
    assert len(plan["partitions"]) > 1
    assert "predicted peak" in capsys.readouterr().out
    assert set(folders.files(target)) == {
        "model.onnx",
        "model.json",
        "plan.json",
        *(each["file"] for each in plan["partitions"]),
    }


def test_same_model_and_budget_give_the_same_folder(source: Path, tmp_path: Path) -> None:
    for parent in ("one", "two"):
        target = tmp_path / parent / "residual"
        assert main([str(source), "-o", str(target), "--budget", "30KiB", "--quiet"]) == 0
    assert folders.files(tmp_path / "one") == folders.files(tmp_path / "two")


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
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], *options: str
) -> str:
    """One line that begins with "error:", exit status 1, and nothing was written."""
    before = folders.files(tmp_path)
    assert main([str(source), "-o", str(tmp_path / "out" / "m"), *options]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert folders.files(tmp_path) == before
    return err


def test_operator_above_the_budget(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = models.save(models.heavy_middle(), tmp_path / "m.onnx")
    said = check_refused(source, tmp_path, capsys, "--budget", "100KiB")
    assert "operator 'heavy'" in said
    assert "needs 151" in said
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
