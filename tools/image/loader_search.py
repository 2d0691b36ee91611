"""Finds the shared libraries of a program in the order in which glibc's loader looks for them.

Breadth first; for each name: what is loaded already under this name, the
DT_RPATH of the file that names it and of those that loaded that one (only where
there is no DT_RUNPATH), LD_LIBRARY_PATH, the file's own DT_RUNPATH, the default
folders (ld.so(8)). Where a folder's files are, a caller says: on the host when
an image is made, in the image when it is checked.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from tools.image.elf import ElfFacts

LOADER_NAMES = ("ld-linux-x86-64.so.2",)
"""Named as a library by some files, but always there: the loader itself."""


@dataclass(frozen=True, slots=True)
class _Loaded:
    path: str
    facts: ElfFacts
    loader: _Loaded | None

    def folders(self, run_path: tuple[str, ...]) -> list[str]:
        """Folders of a run path, with `$ORIGIN` filled in."""
        origin = str(PurePosixPath(self.path).parent)
        return [
            folder.replace("${ORIGIN}", origin).replace("$ORIGIN", origin) for folder in run_path
        ]

    def chain(self) -> Iterator[_Loaded]:
        """This file, the one that loaded it, and so on."""
        current: _Loaded | None = self
        while current is not None:
            yield current
            current = current.loader


@dataclass(slots=True)
class Libraries:
    """What a file needs.

    Attributes:
        found: absolute path of each library under the name by which it was asked for.
        missing: pairs of the file that names a library, and the name.
    """

    found: dict[str, str] = field(default_factory=dict)
    missing: list[tuple[str, str]] = field(default_factory=list)


def load(
    first: str,
    facts_of: Callable[[str], ElfFacts | None],
    library_path: Sequence[str] = (),
    default_folders: Sequence[str] = (),
) -> Libraries:
    """Follows all names from one file on.

    A name that isn't found is missing even if a later file leads to it: the loader ends there.

    Args:
        first: absolute path of an ELF file.
        facts_of: facts of the ELF file at an absolute path; None where there isn't one.
        library_path: LD_LIBRARY_PATH.
        default_folders: where the loader looks last.
    """
    libraries = Libraries()
    facts = facts_of(first)
    if facts is None:
        return libraries
    names = set(LOADER_NAMES)
    waiting = deque([_Loaded(first, facts, None)])
    while waiting:
        current = waiting.popleft()
        for name in current.facts.needed:
            if name in names:
                continue
            folders = _folders(current, library_path, default_folders)
            places = [name] if "/" in name else [f"{folder}/{name}" for folder in folders]
            path = next((place for place in places if facts_of(place) is not None), None)
            facts = facts_of(path) if path is not None else None
            if path is None or facts is None:
                libraries.missing.append((current.path, name))
                continue
            names |= {name, *facts.soname}
            libraries.found[name] = path
            waiting.append(_Loaded(path, facts, current))
    return libraries


def _folders(
    current: _Loaded, library_path: Sequence[str], default_folders: Sequence[str]
) -> list[str]:
    folders: list[str] = []
    if not current.facts.run_path:
        for file in current.chain():
            if not file.facts.run_path:
                folders += file.folders(file.facts.old_run_path)
    folders += library_path
    folders += current.folders(current.facts.run_path)
    folders += default_folders
    return folders
