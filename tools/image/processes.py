"""Starts other programs and turns their failure into this project's errors."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tools.errors import ImageBuildError

MAX_SHOWN_LINES = 12
"""Lines of a failed program's output that are repeated: the reason is near the end."""


def output_of(
    argv: Sequence[str | Path],
    purpose: str,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    without: tuple[str, ...] = (),
) -> str:
    """Runs a program to its end.

    Args:
        argv: program and arguments; no shell is involved.
        purpose: what it was for, as it appears in the error.
        env: variables added to this process's own.
        cwd: folder to run it in.
        without: beginnings of the names of variables that are kept from it.

    Returns:
        Its standard output.

    Raises:
        ImageBuildError: it couldn't be started or failed; holds the end of its output.
    """
    try:
        done = subprocess.run(
            [str(part) for part in argv],
            check=False,
            capture_output=True,
            text=True,
            env={k: v for k, v in os.environ.items() if not k.startswith(without)}
            | dict(env or {}),
            cwd=cwd,
        )
    except OSError as error:
        raise ImageBuildError(purpose, [f"can't start {argv[0]}: {error.strerror}"]) from error
    if done.returncode != 0:
        shown = (done.stderr.strip() or done.stdout.strip()).splitlines()[-MAX_SHOWN_LINES:]
        reason = "\n    ".join([f"{argv[0]} failed with status {done.returncode}:", *shown])
        raise ImageBuildError(purpose, [reason])
    return done.stdout


def shown_of(argv: Sequence[str | Path]) -> str:
    """Runs a program to its end and gives its standard output, whatever its status.

    Raises:
        ImageBuildError: it couldn't be started.
    """
    try:
        done = subprocess.run(
            [str(part) for part in argv], check=False, capture_output=True, text=True
        )
    except OSError as error:
        raise ImageBuildError(str(argv[0]), [f"can't be started: {error.strerror}"]) from error
    return done.stdout


def succeeds(argv: Sequence[str | Path]) -> bool:
    """Whether a program can be started and ends with status 0; its output is dropped."""
    try:
        done = subprocess.run([str(part) for part in argv], check=False, capture_output=True)
    except OSError:
        return False
    return done.returncode == 0


def spawn(
    argv: Sequence[str | Path],
    env: Mapping[str, str],
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Starts a program that shares this process's standard streams.

    Args:
        argv: program and arguments.
        env: its whole environment.
        pass_fds: descriptors that it keeps, under the same numbers.
    """
    return subprocess.Popen([str(part) for part in argv], env=dict(env), pass_fds=tuple(pass_fds))


def wait_for(process: subprocess.Popen[bytes], timeout_s: float) -> int | None:
    """A process's exit status, negative for a signal; None if it still runs after the time."""
    try:
        return process.wait(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        return None
