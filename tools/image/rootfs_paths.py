"""Paths inside an image's root file system, seen as a program in it would see them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, TypeGuard

MAX_LINKS = 40
"""As in Linux: a longer chain is taken for a cycle."""


def resolve_inside(root: Path, absolute: str) -> Path | None:
    """Follows a path and all links on the way, an absolute link starting again at the root.

    Args:
        root: folder that holds the root file system.
        absolute: path as a program in the image writes it.

    Returns:
        The place on the host, or None when something on the way doesn't exist.
    """
    links = 0
    current = root
    waiting = [part for part in absolute.split("/") if part not in ("", ".")][::-1]
    while waiting:
        part = waiting.pop()
        if part == "..":
            current = current.parent if current != root else root
            continue
        step = current / part
        if not os.path.lexists(step):
            return None
        if not step.is_symlink():
            current = step
            continue
        links += 1
        if links > MAX_LINKS:
            return None
        text = str(step.readlink())
        if text.startswith("/"):
            current = root
        waiting += [piece for piece in text.split("/") if piece not in ("", ".")][::-1]
    return current


def is_plain_path(value: Any) -> TypeGuard[str]:
    """Whether a value is a text like "/a/b": absolute and without ".."."""
    return isinstance(value, str) and value.startswith("/") and ".." not in value.split("/")


def walk_files(root: Path) -> list[Path]:
    """Every entry that isn't a folder, links included, sorted by path."""
    found: list[Path] = []
    for folder, folders, names in os.walk(root):
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        found += [Path(folder) / name for name in [*names, *links]]
    return sorted(found)
