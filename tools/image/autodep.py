"""Finds the shared libraries that an ELF file names, as copy_bom's `autodep` does.

copy_bom asks Occlum's loader; here the files' own tables are read. Like there,
libraries that a program opens by itself (`dlopen`) aren't seen. A file's run
path is searched before the system's folders, as the loader does at run time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tools.image.elf import ElfFacts, read_elf

GLIBC_FOLDER = "/opt/occlum/glibc/lib"
"""Where Occlum's loader looks by default, and where system libraries go in the image."""

SYSTEM_FOLDERS = (
    "/usr/lib/x86_64-linux-gnu",
    "/lib/x86_64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
    "/usr/local/lib",
)
"""Where the host keeps its libraries."""

LOADER_NAMES = ("ld-linux-x86-64.so.2",)
"""Named as a library by some files, but always there: the loader itself."""


@dataclass(slots=True)
class Dependencies:
    """What a file needs: pairs of a file on the host and its absolute path in the image."""

    found: set[tuple[Path, str]] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)


class LibraryFinder:
    """Looks libraries up and remembers what it read."""

    def __init__(self, system_folders: Iterable[str] = SYSTEM_FOLDERS) -> None:
        self._system = [Path(folder) for folder in system_folders]
        self._facts: dict[Path, ElfFacts | None] = {}

    def facts(self, path: Path) -> ElfFacts | None:
        """A file's facts; None when it isn't ELF."""
        if path not in self._facts:
            self._facts[path] = read_elf(path)
        return self._facts[path]

    def dependencies(self, path: Path, default_loader: str | None) -> Dependencies:
        """All libraries that a file needs, directly or through others, and its loader.

        Args:
            path: any file; one that isn't ELF needs nothing.
            default_loader: loader of a library, which names none itself. Without one, a library
                isn't looked at, as in copy_bom.
        """
        result = Dependencies()
        facts = self.facts(path)
        if facts is None or facts.kind not in ("ET_DYN", "ET_EXEC"):
            return result
        loader = facts.interpreter or default_loader
        if loader is None:
            return result
        result.found.add((Path(loader), loader))
        waiting, seen = [path], {path}
        while waiting:
            current = waiting.pop()
            for library in self._direct(current, result):
                if library not in seen:
                    seen.add(library)
                    waiting.append(library)
        return result

    def only_loader(self, paths: Iterable[Path]) -> str | None:
        """The loader that all executables agree on; None when they name none or several."""
        named = {facts.interpreter for path in paths if (facts := self.facts(path)) is not None}
        named.discard(None)
        return named.pop() if len(named) == 1 else None

    def _direct(self, path: Path, result: Dependencies) -> list[Path]:
        facts = self.facts(path)
        if facts is None:
            return []
        libraries: list[Path] = []
        for name in facts.needed:
            if name in LOADER_NAMES:
                continue
            own = [folder.replace("$ORIGIN", str(path.parent)) for folder in facts.run_path]
            library = self._search(name, [Path(folder) for folder in own])
            if library is None:
                result.missing.add(name)
                continue
            result.found.add((library, self._place(library, name)))
            libraries.append(library)
        return libraries

    def _search(self, name: str, own_folders: list[Path]) -> Path | None:
        for folder in [*own_folders, *self._system]:
            if (folder / name).is_file():
                return folder / name
        return None

    def _place(self, library: Path, name: str) -> str:
        if library.parent in self._system:
            return f"{GLIBC_FOLDER}/{name}"
        return str(library.absolute())
