from __future__ import annotations

import pytest

from app import limits
from tests.docs.commands import README, ROOT, commands, help_text, shown


@pytest.mark.parametrize(("script", "module"), commands().items())
def test_help_is_in_the_readme(script: str, module: str) -> None:
    text = help_text(module)
    assert text.startswith(f"usage: {script}")
    place = shown(README.read_text(encoding="utf-8"), script)
    assert place is not None, f"no block 'usage: {script}'"
    assert place[1] == text, "run 'python -m tests.docs.update'"


def test_the_known_commands_are_found() -> None:
    """An empty search would make the test above pass without looking at anything."""
    known = {"tools/partition.py", "tools/bundle.py", "tools/check_accuracy.py"}
    assert known <= commands().keys()


@pytest.mark.parametrize("script", commands())
def test_scripts_can_be_typed(script: str) -> None:
    path = ROOT / script
    assert path.stat().st_mode & 0o111
    assert path.read_text(encoding="utf-8").startswith("#!/usr/bin/env python3\n")


@pytest.mark.parametrize(
    "name", [name for name in vars(limits) if name.isupper() and name not in ("KIB", "MIB")]
)
def test_every_limit_is_explained(name: str) -> None:
    assert f"`{name}`" in (ROOT / "app" / "README.md").read_text(encoding="utf-8")
