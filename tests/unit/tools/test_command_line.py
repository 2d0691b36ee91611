from __future__ import annotations

import pytest

from app.errors import InputError
from tools.command_line import phases, run
from tools.errors import AccuracyError, ModelError, ServingError


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (AccuracyError("no"), 1, "error: no\n"),
        (ServingError("no"), 1, "error: no\n"),
        (InputError("wrong"), 2, "error: wrong\n"),
        (ModelError("wrong"), 2, "error: wrong\n"),
        (FileNotFoundError(2, "No such file", "x"), 2, "error: x: No such file\n"),
        (PermissionError(13, "Permission denied", "x"), 3, "error: x: Permission denied\n"),
        (OSError("no errno"), 3, "error: no errno\n"),
        (KeyboardInterrupt(), 130, "stopped\n"),
    ],
)
def test_errors_become_one_line_and_a_status(
    error: BaseException, status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def command() -> int:
        raise error

    assert run(command) == status
    assert capsys.readouterr().err == said


def test_defect_is_not_hidden() -> None:
    def command() -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(command)


def test_phases_say_nothing_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with phases() as say:
        say("planning")
    assert capsys.readouterr() == ("", "")
