"""Writes every command's help into tools/README.md: `python -m tests.docs.update`.

A new command needs a section with a block that holds its first line alone:

    ```text
    usage: tools/NAME.py
    ```
"""

from __future__ import annotations

import sys

from tests.docs.commands import README, commands, help_text, shown


def main() -> int:
    """Replaces the blocks; gives 1 when a command has none."""
    text = README.read_text(encoding="utf-8")
    missing = []
    for script, module in commands().items():
        place = shown(text, script)
        if place is None:
            missing.append(script)
            continue
        text = text[: place.start(1)] + help_text(module) + text[place.end(1) :]
    README.write_text(text, encoding="utf-8")
    for script in missing:
        print(f"{README}: no block for {script}", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
