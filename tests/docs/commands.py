"""The commands in tools/, their help, and where tools/README.md shows it."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from unittest.mock import patch

ROOT: Final = Path(__file__).parents[2]
README: Final = ROOT / "tools" / "README.md"
COLUMNS: Final = "80"
_LAUNCH: Final = re.compile(r'^ *launch\("([\w.]+)"\)$', re.MULTILINE)


def commands() -> Mapping[str, str]:
    """Gives the module of every script that people run, by the script's path."""
    found = {}
    for path in sorted((ROOT / "tools").glob("*.py")):
        if match := _LAUNCH.search(path.read_text(encoding="utf-8")):
            found[f"tools/{path.name}"] = match[1]
    return found


def help_text(module: str) -> str:
    """Gives what a command prints for --help on a terminal of 80 columns."""
    main = importlib.import_module(module).main
    with (
        contextlib.redirect_stdout(io.StringIO()) as printed,
        contextlib.suppress(SystemExit),
        patch.dict(os.environ, {"COLUMNS": COLUMNS}),
    ):
        main(["--help"])
    return printed.getvalue().strip()


def shown(readme: str, script: str) -> re.Match[str] | None:
    """Finds the fenced block that begins with a script's usage; its text is group 1."""
    pattern = rf"^```text\n(usage: {re.escape(script)}\b.*?)\n```$"
    return re.search(pattern, readme, re.MULTILINE | re.DOTALL)
