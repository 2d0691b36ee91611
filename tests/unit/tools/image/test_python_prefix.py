"""Builds that share one Python prefix: each leaves it whole, whatever another one does."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests import folders
from tests.unit.app.serving.worlds import WATCHDOG_S, Gate, until
from tools.errors import ImageBuildError
from tools.image import python_prefix
from tools.image.python_prefix import stage_python


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replaces the long steps by short ones; gives the prefixes that were begun."""
    begun: list[str] = []

    def install(prefix: Path) -> None:
        begun.append(prefix.name)
        (prefix / "bin").mkdir(parents=True)
        (prefix / "bin" / "python3").write_text("interpreter")

    def copy_library(prefix: Path) -> None:
        (prefix / "lib").mkdir()

    def put_packages(packages: Path, _wheels: Path) -> None:
        (packages / "app").write_text("app")

    monkeypatch.setattr(python_prefix, "install_interpreter", install)
    monkeypatch.setattr(python_prefix, "copy_standard_library", copy_library)
    monkeypatch.setattr(python_prefix, "fetch_wheels", lambda *_: None)
    monkeypatch.setattr(python_prefix, "_packages_folder", lambda prefix: prefix / "lib")
    monkeypatch.setattr(python_prefix, "_install_packages", put_packages)
    monkeypatch.setattr(python_prefix, "_compile_modules", lambda _: None)
    return begun


WHOLE = {"bin/python3": b"interpreter", "lib/app": b"app"}


def stage(place: Path, say: Callable[[str], None] = lambda _: None) -> None:
    stage_python(place / "python-occlum", place / "wheels", say)


def test_two_builds_at_once_make_one_whole_prefix(
    steps: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, said = Gate(), list[str]()
    monkeypatch.setattr(python_prefix, "_compile_modules", lambda _: gate.pass_through())
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(stage, tmp_path)
        gate.wait()
        second = pool.submit(stage, tmp_path, said.append)
        try:
            until(lambda: bool(said))
            assert "waiting for another build" in said[0]
            assert not second.done()
        finally:
            gate.opened.set()
        first.result(WATCHDOG_S)
        second.result(WATCHDOG_S)
    assert len(steps) == 1, "the second one had nothing to do"
    assert "up to date" in said[1]
    assert folders.files(tmp_path / "python-occlum") == WHOLE


def test_what_a_killed_build_left_is_no_part_of_the_next(steps: list[str], tmp_path: Path) -> None:
    left = tmp_path / "python-occlum.partial" / "lib"
    left.mkdir(parents=True)
    (left / "half").touch()
    stage(tmp_path)
    assert folders.files(tmp_path / "python-occlum") == WHOLE
    assert not left.exists()
    assert len(steps) == 1


def test_a_build_that_fails_lets_the_next_one_begin(
    steps: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = threading.Event()
    failing.set()

    def compile_modules(_: Path) -> None:
        if failing.is_set():
            raise ImageBuildError("compiling the modules", ["no space"])

    monkeypatch.setattr(python_prefix, "_compile_modules", compile_modules)
    with pytest.raises(ImageBuildError, match="no space"):
        stage(tmp_path)
    assert not (tmp_path / "python-occlum").exists()
    failing.clear()
    stage(tmp_path)
    assert folders.files(tmp_path / "python-occlum") == WHOLE
    assert len(steps) == 2
