from __future__ import annotations

from pathlib import Path

import pytest

from tools.training import libraries
from tools.training.command import main


def test_missing_libraries_are_named_with_the_command_that_installs_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(libraries, "find_spec", lambda name: None)
    assert main(["-o", str(tmp_path / "model")]) == 3
    said = capsys.readouterr().err
    assert "missing here: torch, sklearn" in said
    assert ".venv/bin/pip install torch==2.13.0 scikit-learn" in said
    assert "Traceback" not in said
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--epochs", "0"], "expected a whole number from 1, got 0"),
        (["--epochs", "many"], "got 'many'"),
        (["--seed", "-1"], "got '-1'"),
        (["--seed", "99999999999999999999999"], "below 10^9"),
        (["--model-version", "0"], "expected a whole number from 1, got 0"),
        (["-o", __file__], "is a file"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_runs(
    arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert reason in capsys.readouterr().err


def test_help_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    for option in ("--output", "--seed", "--epochs", "--model-version"):
        assert option in text
