"""Where every file of an image came from.

A file of a package must still be what its wheel's RECORD says, and a file of this host what the
host has. One that neither explains is a problem: somebody put it there. A compiled module is told
by its name alone; what it was compiled from is looked at.
"""

from __future__ import annotations

import base64
import csv
import re
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory

from tools.files import file_digest
from tools.image.autodep import GLIBC_FOLDER, SYSTEM_FOLDERS
from tools.image.debian import DebianPackage, owners
from tools.image.interpreter import base_interpreter, install_interpreter, library_folders

PYTHON = "opt/python-occlum"
"""The prefix inside an image."""

OCCLUM_FOLDERS = (
    GLIBC_FOLDER,
    "/opt/occlum/toolchains/grpc_ratls/glibc",
    "/opt/occlum/toolchains/dcap_lib/glibc",
)
"""Where copy_bom finds Occlum's own libraries."""

OWN_PACKAGE = "cloister"

_COMPILED = re.compile(r"^(?P<folder>.*)__pycache__/(?P<module>[^/]+)\.cpython-\d+\.pyc$")


class Origin(StrEnum):
    """Who brought a file."""

    WHEEL = "wheel"
    """A locked package."""

    PROJECT = "project"
    """This project's own code."""

    HOST = "host"
    """The machine that built the image."""

    BUILD = "build"
    """Made by the build: what was asked for, and what was compiled or linked."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of an image.

    Attributes:
        path: in the image, absolute.
        digest: SHA-256 in hex.
        origin: who brought it.
        source: the package with its version, or the file on this host.
        package: the Debian package that owns the file on this host, where one does.
    """

    path: str
    digest: str
    origin: Origin
    source: str
    package: DebianPackage | None = None


@dataclass(frozen=True, slots=True)
class Inventory:
    """All files of an image, by path, and what is wrong with those that nothing explains."""

    entries: Sequence[Entry]
    problems: Sequence[str]

    def table(self) -> str:
        """The entries as lines of fields with tabs between them, under a line of names."""
        lines = ["sha256\tpath\torigin\tsource\tpackage"]
        for entry in self.entries:
            package = f"{entry.package.name}={entry.package.version}" if entry.package else ""
            fields = (entry.digest, entry.path, entry.origin, entry.source, package)
            lines.append("\t".join(fields))
        return "\n".join(lines) + "\n"

    def host_entries(self) -> list[Entry]:
        """The files that this host brought."""
        return [entry for entry in self.entries if entry.origin is Origin.HOST]


def take_inventory(image: Path, prefix: Path, stage: Path) -> Inventory:
    """Explains every file of an image.

    Args:
        image: its root file system.
        prefix: the staged Python prefix that was copied into it, with the wheels' RECORDs.
        stage: the instance's stage, whose `rootfs` was copied into it.
    """
    search = _Search(prefix, stage)
    entries: list[Entry] = []
    problems: list[str] = []
    for path in sorted(image.rglob("*")):
        if path.is_symlink() or not path.is_file():
            continue
        relative = path.relative_to(image).as_posix()
        digest = file_digest(path)
        explained = search.explain(relative, digest)
        if explained is None:
            problems.append(
                f"/{relative} (sha256 {digest}) is neither a package's nor this host's file as it "
                "stands; remove build/python to stage everything anew"
            )
            continue
        entries.append(Entry(f"/{relative}", digest, *explained))
    packages = owners(Path(e.source) for e in entries if e.origin is Origin.HOST)
    owned = [replace(e, package=packages.get(Path(e.source))) for e in entries]
    return Inventory(owned, problems)


class _Search:
    """Looks at every place that a build takes files from."""

    def __init__(self, prefix: Path, stage: Path) -> None:
        self._stage = stage
        self._base = base_interpreter()
        self._library = Path(sysconfig.get_path("stdlib"))
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        self._inner_library = f"lib/python{version}/"
        self._recorded = dict(_recorded(prefix))
        self._folders = [Path(f) for f in (*OCCLUM_FOLDERS, *SYSTEM_FOLDERS)]

    def explain(self, relative: str, digest: str) -> tuple[Origin, str] | None:
        """Gives a file's origin and source; None when nothing explains it.

        Args:
            relative: path in the image, without a leading slash.
            digest: SHA-256 in hex.
        """
        if _is(self._stage / "rootfs" / relative, digest):
            return Origin.BUILD, "configuration and bundles of this build"
        if relative == "bin/app" and _is(self._stage / "app", digest):
            return Origin.PROJECT, "occlum_image/app"
        if relative.startswith(f"{PYTHON}/"):
            return self._python(relative.removeprefix(f"{PYTHON}/"), digest)
        places = [Path("/") / relative, *(folder / Path(relative).name for folder in self._folders)]
        return _from_host(places, digest)

    def _python(self, inner: str, digest: str) -> tuple[Origin, str] | None:
        compiled = _COMPILED.match(inner)
        if compiled is not None:
            return self._compiled(f"{compiled['folder']}{compiled['module']}.py")
        if inner in self._recorded:
            recorded, origin, package = self._recorded[inner]
            return (origin, package) if recorded == digest else None
        if inner == "bin/python3":
            return self._interpreter(digest)
        if inner.startswith(self._inner_library):
            place = self._library / inner.removeprefix(self._inner_library)
            return _from_host([place], digest)
        return _from_host((f / Path(inner).name for f in library_folders(self._base)), digest)

    def _interpreter(self, digest: str) -> tuple[Origin, str] | None:
        """Makes it once more: its run path was rewritten, or it is a launcher for this one."""
        with TemporaryDirectory() as name:
            install_interpreter(Path(name), self._base)
            if not _is(Path(name) / "bin" / "python3", digest):
                return None
        return Origin.BUILD, f"made for {self._base}, sha256 {file_digest(self._base)}"

    def _compiled(self, module: str) -> tuple[Origin, str] | None:
        if module in self._recorded:
            return Origin.BUILD, f"compiled from {self._recorded[module][2]}"
        place = self._library / module.removeprefix(self._inner_library)
        return (Origin.BUILD, f"compiled from {place}") if place.is_file() else None


def _recorded(prefix: Path) -> Iterator[tuple[str, tuple[str, Origin, str]]]:
    """Reads the wheels' RECORDs: digest, origin and package of each path below a prefix."""
    for record in sorted(prefix.rglob("*.dist-info/RECORD")):
        name, _, version = record.parent.name.removesuffix(".dist-info").rpartition("-")
        origin = Origin.PROJECT if name == OWN_PACKAGE else Origin.WHEEL
        top = record.parent.parent.relative_to(prefix)
        with record.open(newline="", encoding="utf-8") as file:
            for path, noted, _ in csv.reader(file):
                algorithm, _, text = noted.partition("=")
                if algorithm == "sha256":
                    digest = base64.urlsafe_b64decode(f"{text}=").hex()
                    yield (top / path).as_posix(), (digest, origin, f"{name} {version}")


def _from_host(places: Iterable[Path], digest: str) -> tuple[Origin, str] | None:
    place = next((place for place in places if _is(place, digest)), None)
    return (Origin.HOST, str(place)) if place is not None else None


def _is(path: Path, digest: str) -> bool:
    return path.is_file() and file_digest(path) == digest
