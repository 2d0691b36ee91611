"""Checks that every shared library can be loaded, in the order in which the loader would."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from pathlib import Path

from tools.image.autodep import GLIBC_FOLDER, LOADER_NAMES
from tools.image.elf import ElfFacts
from tools.image.rootfs_paths import resolve_inside


def link_problems(root: Path, files: Mapping[Path, ElfFacts]) -> list[str]:
    """Libraries that an image's files name and that its loader wouldn't find.

    A library that others name is looked at as their part: packages often carry libraries that
    find each other only because the module that loads one has loaded the other before.

    Args:
        root: folder that holds the root file system.
        files: all ELF files below it.
    """
    named = {name for facts in files.values() for name in facts.needed}
    problems: set[str] = set()
    for path in files:
        if path.name not in named:
            problems |= set(_load(root, path, files))
    return sorted(problems)


def _load(root: Path, first: Path, files: Mapping[Path, ElfFacts]) -> list[str]:
    loaded = set(LOADER_NAMES)
    waiting = deque([first])
    missing: list[tuple[Path, str]] = []
    while waiting:
        path = waiting.popleft()
        for name in files[path].needed if path in files else ():
            if name in loaded:
                continue
            place = _locate(root, path, files[path], name)
            if place is None:
                missing.append((path, name))
                continue
            loaded.add(name)
            waiting.append(place)
    return [
        f"/{path.relative_to(root)} needs the library {name}, which isn't in the image"
        for path, name in missing
        if name not in loaded
    ]


def _locate(root: Path, path: Path, facts: ElfFacts, library: str) -> Path | None:
    origin = f"/{path.parent.relative_to(root)}"
    folders = [folder.replace("$ORIGIN", origin) for folder in facts.run_path]
    for folder in [*folders, GLIBC_FOLDER]:
        place = resolve_inside(root, f"{folder}/{library}")
        if place is not None:
            return place
    return None
