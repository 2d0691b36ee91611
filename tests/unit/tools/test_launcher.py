"""Scripts find the project's interpreter by themselves."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tools import launcher


def test_interpreter_of_the_project_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interpreter = tmp_path / ".venv" / "bin" / "python"
    interpreter.parent.mkdir(parents=True)
    interpreter.touch()
    started: list[object] = []

    def replace(*arguments: object) -> None:
        started.extend(arguments)
        raise SystemExit(0)

    monkeypatch.setattr(launcher, "ROOT", tmp_path)
    monkeypatch.setattr("os.execv", replace)
    monkeypatch.setattr(sys, "argv", ["tools/x.py", "a"])
    with pytest.raises(SystemExit):
        launcher.launch("no.such.module")
    assert started == [interpreter, [str(interpreter), "tools/x.py", "a"]]


def test_where_there_is_none_it_says_what_makes_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "ROOT", tmp_path)
    with pytest.raises(SystemExit, match=r"'make setup' in .* makes it"):
        launcher.launch("no.such.module")
