from __future__ import annotations

from pathlib import Path

import pytest

from tools.commands.zoo import main
from tools.zoo.registry import ENTRIES

MODEL = "mobilenet-v3-small"


def test_list_shows_every_model_and_makes_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--list", "-o", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert all(entry.name in shown for entry in ENTRIES)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("model", [MODEL, "squeezenet-1.0", "shufflenet"])
def test_a_real_model_is_made_once_and_is_sound(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([model, "--check", "-o", str(tmp_path)]) == 0
    file = tmp_path / model / "model.onnx"
    first = file.stat()
    shown = capsys.readouterr()
    assert "made" in shown.out
    assert "sound" in shown.out
    assert not shown.err
    assert main([model, "-o", str(tmp_path)]) == 0
    assert "is there already" in capsys.readouterr().out
    assert file.stat() == first


def test_force_makes_it_anew_with_the_same_bytes(tmp_path: Path) -> None:
    file = tmp_path / MODEL / "model.onnx"
    assert main([MODEL, "--quiet", "-o", str(tmp_path)]) == 0
    inode, content = file.stat().st_ino, file.read_bytes()
    assert main([MODEL, "--quiet", "--force", "-o", str(tmp_path)]) == 0
    assert file.stat().st_ino != inode
    assert file.read_bytes() == content


def test_an_unknown_name_stops_before_anything_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([MODEL, "resnet-51", "-o", str(tmp_path)]) == 2
    assert "error: the zoo has no 'resnet-51'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_an_unsound_model_is_named_with_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.zoo.check.LEAST_SPREAD", 0.99)
    assert main([MODEL, "--check", "--quiet", "-o", str(tmp_path)]) == 1
    shown = capsys.readouterr()
    assert f"error: {MODEL}: output logits, picture: hardly depends on the input" in shown.err
    assert not shown.out
