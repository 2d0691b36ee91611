"""A real Ctrl-C, to the whole process group as a terminal sends it, while others measure."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests import folders, models
from tests.docs.commands import ROOT
from tools.commands.partition import main as partition

WATCHDOG_S = 120.0


@contextmanager
def group_of(words: Sequence[str], scratch: Path) -> Iterator[subprocess.Popen[str]]:
    """Runs a command in a process group of its own; nothing of it is left afterwards."""
    environment = {**os.environ, "TMPDIR": str(scratch)}
    process = subprocess.Popen(
        words, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        yield process
        until(lambda: not members(process.pid))
    finally:
        if members(process.pid):
            os.killpg(process.pid, signal.SIGKILL)


def members(group: int) -> list[int]:
    """The processes of a group that haven't ended."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its_group = path.read_text().rpartition(")")[2].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(its_group) == group and state != "Z":
            found.append(int(path.parent.name))
    return found


def until(condition: Callable[[], bool]) -> None:
    """Waits for other processes to make something true."""
    end = time.monotonic() + WATCHDOG_S
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < end, "the condition never became true"
        pause.wait(0.01)


def check_interrupted(words: Sequence[str], processes: int, scratch: Path) -> str:
    """Sends SIGINT to all as soon as there are so many; gives what the command said."""
    scratch.mkdir()
    with group_of(words, scratch) as process:
        until(lambda: process.poll() is not None or len(members(process.pid)) >= processes)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=WATCHDOG_S)
        assert process.returncode == 130
    assert "Traceback" not in said
    assert list(scratch.iterdir()) == [], "measuring leaves nothing behind"
    return said


def test_measuring_a_plan(tmp_path: Path) -> None:
    """Beside the command: what tracks shared things, what forks, what measures."""
    source = models.save(models.wide_chain(12, 256), tmp_path / "wide.onnx")
    target = tmp_path / "wide"
    words = ["-o", str(target), "--budget", "4800KiB", "--optimization", "none", "--quiet"]
    assert partition([str(source), *words]) == 0
    before = folders.files(target)
    command = [sys.executable, "tools/partition.py", str(target), "--measure"]
    assert check_interrupted(command, 4, tmp_path / "scratch") == "stopped\n"
    assert folders.files(target) == before


def test_benchmark(tmp_path: Path) -> None:
    """The third process is the first child, after the one that tracks what they share."""
    target = tmp_path / "results"
    command = [sys.executable, "tools/benchmark.py", "partitions", "--models", "digits", "--quiet"]
    command += ["--counts", "2", "--budgets", "-o", str(target)]
    said = check_interrupted(command, 3, tmp_path / "scratch")
    assert said == "stopped: what was finished is written and marked as partial\n"
    assert len(list(target.glob("*-partitions.html"))) == 1
    assert not list(target.glob(".*")), "nothing half-written"
