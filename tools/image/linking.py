"""Checks that every shared library can be loaded, in the order in which the loader would."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tools.image.autodep import GLIBC_FOLDER
from tools.image.elf import ElfFacts
from tools.image.loader_search import load
from tools.image.rootfs_paths import resolve_inside


def link_problems(root: Path, files: Mapping[Path, ElfFacts]) -> list[str]:
    """Libraries that an image's files name and that its loader wouldn't find.

    A library that others name is looked at as their part: packages often carry libraries that
    find each other only because the module that loads one has loaded the other before.

    Args:
        root: folder that holds the root file system.
        files: all ELF files below it.
    """

    def facts_of(absolute: str) -> ElfFacts | None:
        place = resolve_inside(root, absolute)
        return files.get(place) if place is not None else None

    named = {name for facts in files.values() for name in facts.needed}
    problems: set[str] = set()
    for path in files:
        if path.name not in named:
            absolute = f"/{path.relative_to(root)}"
            missing = load(absolute, facts_of, default_folders=[GLIBC_FOLDER]).missing
            problems |= {
                f"{asking} needs the library {name}, which isn't in the image"
                for asking, name in missing
            }
    return sorted(problems)
