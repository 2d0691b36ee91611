"""`occlum run` killed, above or inside: nobody is left, the port is free, the next one runs."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.image.instances import WATCHDOG_S, TestInstance, path_without
from tools.bench.process_tree import descendants
from tools.launcher import ROOT

LISTEN = """
import socket, threading
listener = socket.create_server(("127.0.0.1", 0))
for _ in range(3):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
open("/tmp/half-written", "w").write("x")
print(listener.getsockname()[1], flush=True)
listener.accept()
"""


def is_there(process_id: int) -> bool:
    """Whether a process runs; one that nobody has waited for yet doesn't."""
    try:
        state = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in ("Z", "X")


def until_gone(family: list[int]) -> None:
    """Waits for killed processes to end: a pipe is closed a moment before its process is gone."""
    end = time.monotonic() + WATCHDOG_S
    while left := [each for each in family if is_there(each)]:
        assert time.monotonic() < end, f"{left} go on"
        threading.Event().wait(0.005)


@pytest.mark.parametrize("runtime", ["sandbox", "plain"])
def test_kill(instance: TestInstance, tmp_path: Path, runtime: str) -> None:
    """By the command's own death the app ends, and by the app's the command."""
    assert instance.build().status == 0
    path = path_without(tmp_path / "path", "bwrap") if runtime == "plain" else os.environ["PATH"]
    environment = {**os.environ, "PATH": path}
    for victim in ("the command", "the app"):
        with subprocess.Popen(
            [sys.executable, ROOT / "tools" / "occlum", "run", "/bin/probe", LISTEN],
            cwd=instance.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as command:
            assert command.stdout is not None
            port = int(command.stdout.readline())
            family = descendants(command.pid)
            assert family[-1] != command.pid
            os.kill(command.pid if victim == "the command" else family[-1], signal.SIGKILL)
            status = command.wait(WATCHDOG_S)
            assert status == (-signal.SIGKILL if victim == "the command" else 128 + signal.SIGKILL)
            until_gone(family)
            assert command.stdout.read() == b"", "no process of the image holds the pipe any more"
        with socket.create_server(("127.0.0.1", port)):
            pass
    done = instance.probe("print('ran')", env=environment)
    assert (done.status, done.out) == (0, "ran\n"), done.err
