"""Runs a command of this project with the project's own interpreter.

Every script in this folder is one call of `launch`, so that it can be typed
without activating `.venv` first. Standard library only: it runs before
anything is installed.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent

_ON_MODELS = tuple(f"tools.commands.{name}" for name in ("partition", "check_accuracy", "bundle"))
"""What works on other people's models does so in a child process."""

_ENVIRONMENT = 3
_INTERRUPTED = 130
"""See tools/command_line.py, which can't be imported yet where these are needed."""


def launch(module: str) -> NoReturn:
    """Runs `main()` of a module and exits with the status that it returns.

    Args:
        module: its dotted name, as in "tools.accuracy.command".
    """
    interpreter = ROOT / ".venv" / "bin" / "python"
    if Path(sys.prefix) != ROOT / ".venv":
        if not interpreter.exists():
            _leave(
                f"error: {ROOT / '.venv'} doesn't exist yet; 'make setup' in {ROOT} makes it",
                _ENVIRONMENT,
            )
        os.execv(interpreter, [str(interpreter), *sys.argv])  # noqa: S606 - replaces, starts nothing
    sys.path[0] = str(ROOT)
    try:
        if module in _ON_MODELS:
            importlib.import_module("tools.confinement.supervisor").supervise()
        sys.exit(importlib.import_module(module).main())
    except KeyboardInterrupt:
        _leave("stopped", _INTERRUPTED)


def _leave(message: str, status: int) -> NoReturn:
    print(message, file=sys.stderr)
    sys.exit(status)
