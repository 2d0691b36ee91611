"""Scripts find the project's interpreter by themselves."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tools import launcher
from tools.command_line import ENVIRONMENT, INTERRUPTED


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
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(launcher, "ROOT", tmp_path)
    with pytest.raises(SystemExit) as left:
        launcher.launch("no.such.module")
    assert left.value.code == ENVIRONMENT
    assert re.search(r"'make setup' in .* makes it", capsys.readouterr().err)


def test_ctrl_c_while_a_command_is_imported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_module: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("importlib.import_module", interrupted)
    monkeypatch.setattr(sys, "prefix", str(launcher.ROOT / ".venv"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(SystemExit) as left:
        launcher.launch("tools.commands.client")
    assert left.value.code == INTERRUPTED
    assert capsys.readouterr().err == "stopped\n"
