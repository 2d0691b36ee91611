"""Finds the shared libraries that an ELF file names, as copy_bom's `autodep` does.

copy_bom asks Occlum's loader with the folders of Occlum's own configuration in
LD_LIBRARY_PATH; here the files' own tables are read in the loader's order. So
a system's library comes before the one that a file's RUNPATH leads to, though
at run time in Occlum the RUNPATH's is used. Like there, libraries that a
program opens by itself (`dlopen`) aren't seen.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tools.image.elf import ElfFacts, read_elf
from tools.image.loader_search import load

GLIBC_FOLDER = "/opt/occlum/glibc/lib"
"""Where Occlum's loader looks by default, and where system libraries go in the image."""

SYSTEM_FOLDERS = (
    GLIBC_FOLDER,
    "/usr/lib/x86_64-linux-gnu",
    "/lib/x86_64-linux-gnu",
    "/lib64",
    "/lib",
    "/usr/local/lib",
    "/opt/occlum/toolchains/grpc_ratls/glibc",
    "/opt/occlum/toolchains/dcap_lib/glibc",
)
"""LD_LIBRARY_PATH of copy_bom's question: the first line of Occlum's occlum_elf_loader.config."""


@dataclass(slots=True)
class Dependencies:
    """What a file needs: pairs of a file on the host and its absolute path in the image."""

    found: set[tuple[Path, str]] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)


class LibraryFinder:
    """Looks libraries up and remembers what it read."""

    def __init__(self, system_folders: Iterable[str] = SYSTEM_FOLDERS) -> None:
        self._system = tuple(system_folders)
        self._facts: dict[str, ElfFacts | None] = {}

    def facts(self, path: str) -> ElfFacts | None:
        """A file's facts; None when there isn't one, or it isn't ELF."""
        if path not in self._facts:
            self._facts[path] = read_elf(Path(path)) if Path(path).is_file() else None
        return self._facts[path]

    def dependencies(self, path: Path, default_loader: str | None) -> Dependencies:
        """All libraries that a file needs, directly or through others, and its loader.

        When one is missing, only the loader is given: Occlum's lists nothing then.

        Args:
            path: any file; one that isn't ELF needs nothing.
            default_loader: loader of a library, which names none itself. Without one, a library
                isn't looked at, as in copy_bom.
        """
        result = Dependencies()
        facts = self.facts(str(path))
        if facts is None or facts.kind not in ("ET_DYN", "ET_EXEC"):
            return result
        loader = facts.interpreter or default_loader
        if loader is None:
            return result
        result.found.add((Path(loader), loader))
        libraries = load(str(path.absolute()), self.facts, library_path=self._system)
        result.missing = {name for _, name in libraries.missing}
        if not result.missing:
            for name, place in libraries.found.items():
                folder = place.rpartition("/")[0]
                system = folder in self._system
                result.found.add((Path(place), f"{GLIBC_FOLDER}/{name}" if system else place))
        return result

    def only_loader(self, paths: Iterable[Path]) -> str | None:
        """The loader that all executables agree on; None when they name none or several."""
        named = {f.interpreter for path in paths if (f := self.facts(str(path))) is not None}
        named.discard(None)
        return named.pop() if len(named) == 1 else None
