"""The host starts the measured program with arguments and variables of its own.

An enclave's measurement covers the image, not what follows the program's name. So in the image
nothing may follow it: a start with arguments ends with 2 before it has read anything.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import app.__main__ as appliance
from app.config import DEFAULT_PATH
from tests.host import keep_process
from tools.launcher import ROOT

ARGUMENTS = (
    ["--config", "/host/evil.json"],
    ["--config=/host/evil.json"],
    ["--conf", "/proc/self/fd/0"],
    ["anything"],
    ["--help"],
    ["-h"],
    [""],
    ["--"],
    ["-c", "import os"],
)


class ReadError(AssertionError):
    """Something was read, or made ready to be."""


@pytest.fixture(autouse=True)
def reads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ends the test when the start gets any further than its arguments."""
    keep_process(monkeypatch)

    def fail(*_: object) -> object:
        raise ReadError

    for name in ("read_config", "_serve", "take_outlets", "forbid_dumps"):
        monkeypatch.setattr(appliance, name, fail)


@pytest.mark.parametrize("arguments", ARGUMENTS)
def test_the_image_takes_no_arguments(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert appliance.run_image(arguments) == 2
    said = capsys.readouterr()
    assert "/bin/app takes no arguments" in said.err
    assert "evil" not in said.err + said.out


@pytest.mark.parametrize("arguments", ARGUMENTS)
def test_in_occlum_neither_does_the_module(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    in_occlum(monkeypatch)
    assert appliance.main(arguments) == 2
    assert "takes no arguments" in capsys.readouterr().err


def in_occlum(monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.uname()
    answer = os.uname_result(("Occlum", *real[1:]))
    monkeypatch.setattr(os, "uname", lambda: answer)


@pytest.mark.parametrize(
    "start", [lambda: appliance.run_image([]), lambda: appliance.main([])], ids=["image", "module"]
)
def test_in_occlum_the_stand_ins_variables_count_for_nothing(
    monkeypatch: pytest.MonkeyPatch, start: Callable[[], int]
) -> None:
    paths: list[tuple[Path, Path]] = []

    def read(path: Path, root: Path) -> object:
        paths.append((path, root))
        raise ReadError

    in_occlum(monkeypatch)
    keep_process(monkeypatch)
    monkeypatch.setattr(appliance, "read_config", read)
    monkeypatch.setenv(appliance.ROOT_VARIABLE, "/host")
    with pytest.raises(ReadError):
        start()
    assert paths == [(DEFAULT_PATH, Path("/"))]


@pytest.mark.parametrize("arguments", ARGUMENTS)
def test_the_images_program_passes_its_arguments_on(arguments: list[str], tmp_path: Path) -> None:
    """The program itself, outside of an image: it would read what a plain process's root holds."""
    environment = {"PYTHONPATH": str(ROOT), appliance.ROOT_VARIABLE: str(tmp_path)}
    done = subprocess.run(
        [sys.executable, str(ROOT / "occlum_image" / "app"), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        input='{"format": 1}',
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert "takes no arguments" in done.stderr
    assert "No such file" not in done.stderr, "it looked for a configuration"
