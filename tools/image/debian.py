"""Which Debian packages own files of this host."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tools.image.processes import output_of, shown_of


@dataclass(frozen=True, slots=True, order=True)
class DebianPackage:
    """Attributes: name, version, and architecture of an installed package."""

    name: str
    version: str
    architecture: str


def owners(paths: Iterable[Path]) -> dict[Path, DebianPackage]:
    """Finds the packages that own files; files that none owns, and all without dpkg, are left out.

    Args:
        paths: absolute.
    """
    if shutil.which("dpkg-query") is None:
        return {}
    # Since /lib is a link to /usr/lib, a package may know a file by either name.
    names = {name: path for path in paths for name in _names(path)}
    if not names:
        return {}
    owner_of: dict[Path, str] = {}
    for line in shown_of(["dpkg-query", "--search", *sorted(names)]).splitlines():
        package, _, name = line.rpartition(": ")
        if name in names and not package.startswith("diversion "):
            owner_of[names[name]] = package.split(",")[0]
    packages = _packages(sorted(set(owner_of.values())))
    return {path: packages[name] for path, name in owner_of.items() if name in packages}


def _names(path: Path) -> set[str]:
    real = str(path.resolve())
    usual = {str(path), real}
    return usual | {name.removeprefix("/usr") for name in usual if name.startswith("/usr/lib")}


def _packages(names: list[str]) -> dict[str, DebianPackage]:
    if not names:
        return {}
    fields = "${binary:Package}\\t${Package}\\t${Version}\\t${Architecture}\\n"
    found: dict[str, DebianPackage] = {}
    for line in output_of(
        ["dpkg-query", "--show", "--showformat", fields, *names], "dpkg-query"
    ).splitlines():
        qualified, name, version, architecture = line.split("\t")
        package = DebianPackage(name, version, architecture)
        found |= {qualified: package, name: package, f"{name}:{architecture}": package}
    return found
