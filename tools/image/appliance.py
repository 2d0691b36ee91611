"""Runs a built image and tells its clients where it is and whom to trust."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from tools.errors import ImageBuildError
from tools.launcher import ROOT

STAND_IN: Final = ROOT / "tools" / "occlum"
STOP_TIMEOUT_S: Final = 20.0

_BEGIN: Final = "-----BEGIN CERTIFICATE-----"
_END: Final = "-----END CERTIFICATE-----"
_READY: Final = "ready on "
_SHOWN_LINES: Final = 12


@dataclass(frozen=True, slots=True)
class RunningImage:
    """An appliance that accepts connections.

    Attributes:
        port: on the loopback interface.
        certificate: PEM text of what it said it answers with.
        process_id: of the `occlum` command, whose descendants do the work.
    """

    port: int
    certificate: str
    process_id: int


@contextmanager
def running_image(folder: Path, log: Path) -> Iterator[RunningImage]:
    """Runs `occlum run /bin/app` until the block ends: the real one where it is on PATH.

    Args:
        folder: a built instance.
        log: file for everything that the appliance prints.

    Raises:
        ImageBuildError: it ended before it was ready; holds the end of its output.
    """
    command = [shutil.which("occlum") or str(STAND_IN), "run", "/bin/app"]
    with (
        log.open("w", encoding="utf-8") as output,
        subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process,
    ):
        try:
            yield _announced(process, output, log)
        finally:
            process.terminate()
            _wait_or_kill(process)


def _announced(process: subprocess.Popen[str], output: IO[str], log: Path) -> RunningImage:
    if process.stdout is None:
        raise ImageBuildError("occlum run", ["its output can't be read"])
    lines: list[str] = []
    for line in process.stdout:
        output.write(line)
        lines.append(line)
        if line.startswith(_READY):
            break
    else:
        reason = "".join(lines[-_SHOWN_LINES:])
        raise ImageBuildError("occlum run", [f"it ended before it was ready, see {log}:\n{reason}"])
    text = "".join(lines)
    certificate = text[text.index(_BEGIN) : text.index(_END) + len(_END)] + "\n"
    # Somebody has to read on: a full pipe would stop the appliance.
    threading.Thread(
        target=output.writelines, args=(process.stdout,), name="output", daemon=True
    ).start()
    return RunningImage(int(lines[-1].split()[-1]), certificate, process.pid)


def _wait_or_kill(process: subprocess.Popen[str]) -> None:
    try:
        process.wait(timeout=STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
