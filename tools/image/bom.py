"""Reads bom.yaml strictly.

Occlum's copy_bom ignores keys that it doesn't know, so that a misspelt one
silently copies nothing; here every such key is a problem, and all of them are
listed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tools.errors import ImageBuildError

MAX_INCLUDED_BOMS = 100
"""As in copy_bom: more are taken for a cycle."""


@dataclass(frozen=True, slots=True)
class BomFile:
    """One file to copy; `digest` is its SHA-256 in upper-case hex or None."""

    name: str
    digest: str | None = None
    autodep: bool = True
    rename: str | None = None


@dataclass(frozen=True, slots=True)
class BomSource:
    """Folders and files that are copied from one place."""

    origin: str | None
    dirs: tuple[str, ...] | None
    files: tuple[BomFile, ...] | None


@dataclass(frozen=True, slots=True)
class BomTarget:
    """Everything that goes below one folder of the image; links are (text, name)."""

    target: str
    mkdirs: tuple[str, ...]
    links: tuple[tuple[str, str], ...]
    sources: tuple[BomSource, ...]


@dataclass(frozen=True, slots=True)
class Bom:
    """One bom file, without those that it includes."""

    path: Path
    includes: tuple[str, ...]
    excludes: tuple[str, ...]
    targets: tuple[BomTarget, ...]


def read_boms(path: Path, include_folders: Sequence[Path] = ()) -> list[Bom]:
    """Reads a bom file and all that it includes, in copy_bom's order: breadth first.

    Args:
        path: the top bom file.
        include_folders: where includes are looked for after the including file's own folder.

    Raises:
        ImageBuildError: lists every problem of the first file that has one.
    """
    waiting = [path]
    found: list[Bom] = []
    for current in waiting:
        if len(found) == MAX_INCLUDED_BOMS:
            raise ImageBuildError(str(path), ["too many includes; is there a cycle?"])
        bom = read_bom(current)
        found.append(bom)
        waiting += [_locate(name, current, include_folders) for name in bom.includes]
    # A file that is included twice counts at its last place.
    last = {bom.path: index for index, bom in enumerate(found)}
    return [bom for index, bom in enumerate(found) if last[bom.path] == index]


def read_bom(path: Path) -> Bom:
    """Reads one bom file.

    Raises:
        ImageBuildError: lists every problem found in it.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ImageBuildError(str(path), [f"can't be read as YAML: {error}"]) from error
    reader = _Reader()
    top = reader.mapping(content, "the file", {"includes", "excludes", "targets"})
    targets = reader.items(top.get("targets"), "targets")
    bom = Bom(
        path=path,
        includes=reader.texts(top.get("includes"), "includes"),
        excludes=reader.texts(top.get("excludes"), "excludes"),
        targets=tuple(reader.target(item, f"targets[{i}]") for i, item in enumerate(targets)),
    )
    if not bom.targets and not bom.includes:
        reader.problems.append("has neither targets nor includes: it would copy nothing")
    if reader.problems:
        raise ImageBuildError(str(path), reader.problems)
    return bom


def _locate(name: str, including: Path, folders: Sequence[Path]) -> Path:
    for folder in (including.parent, *folders):
        if (folder / name).is_file():
            return folder / name
    places = [str(folder) for folder in (including.parent, *folders)]
    raise ImageBuildError(str(including), [f"include {name!r} isn't in any of {places}"])


class _Reader:
    """Takes a parsed document apart and keeps every problem it meets."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def mapping(self, value: Any, where: str, known: set[str]) -> Mapping[str, Any]:
        if not isinstance(value, dict):
            self.problems.append(f"{where} must be a mapping, not {type(value).__name__}")
            return {}
        for key in value:
            if key not in known:
                self.problems.append(
                    f"{where}: unknown key {key!r}; known are {', '.join(sorted(known))}"
                )
        return value

    def items(self, value: Any, where: str) -> list[Any]:
        if value is None:
            return []
        if not isinstance(value, list):
            self.problems.append(f"{where} must be a list, not {type(value).__name__}")
            return []
        return value

    def text(self, value: Any, where: str) -> str:
        if not isinstance(value, str) or not value:
            self.problems.append(f"{where} must be a text, not {value!r}")
            return "?"
        return value

    def optional_text(self, value: Any, where: str) -> str | None:
        return None if value is None else self.text(value, where)

    def texts(self, value: Any, where: str) -> tuple[str, ...]:
        return tuple(
            self.text(item, f"{where}[{i}]") for i, item in enumerate(self.items(value, where))
        )

    def target(self, value: Any, where: str) -> BomTarget:
        known = self.mapping(value, where, {"target", "mkdirs", "createlinks", "copy"})
        target = self.text(known.get("target"), f"{where}.target")
        if not target.startswith("/") or ".." in Path(target).parts:
            self.problems.append(f"{where}.target must be absolute and without '..': {target!r}")
        links = self.items(known.get("createlinks"), f"{where}.createlinks")
        sources = self.items(known.get("copy"), f"{where}.copy")
        return BomTarget(
            target=target,
            mkdirs=self.texts(known.get("mkdirs"), f"{where}.mkdirs"),
            links=tuple(
                self.link(item, f"{where}.createlinks[{i}]") for i, item in enumerate(links)
            ),
            sources=tuple(
                self.source(item, f"{where}.copy[{i}]") for i, item in enumerate(sources)
            ),
        )

    def link(self, value: Any, where: str) -> tuple[str, str]:
        known = self.mapping(value, where, {"src", "linkname"})
        src = self.text(known.get("src"), f"{where}.src")
        return src, self.text(known.get("linkname"), f"{where}.linkname")

    def source(self, value: Any, where: str) -> BomSource:
        known = self.mapping(value, where, {"from", "dirs", "files"})
        if not any(known.get(key) for key in ("from", "dirs", "files")):
            self.problems.append(f"{where} names nothing to copy")
        files = self.items(known.get("files"), f"{where}.files")
        return BomSource(
            origin=self.optional_text(known.get("from"), f"{where}.from"),
            dirs=self.texts(known["dirs"], f"{where}.dirs") if "dirs" in known else None,
            files=tuple(self.file(item, f"{where}.files[{i}]") for i, item in enumerate(files))
            if "files" in known
            else None,
        )

    def file(self, value: Any, where: str) -> BomFile:
        if isinstance(value, str):
            return BomFile(self.text(value, where))
        known = self.mapping(value, where, {"name", "hash", "autodep", "rename"})
        digest = self.optional_text(known.get("hash"), f"{where}.hash")
        if digest is not None and (len(digest) != 64 or set(digest) - set("0123456789ABCDEF")):
            self.problems.append(f"{where}.hash must be 64 upper-case hex digits")
        if digest is not None and "$" in str(known.get("name")):
            self.problems.append(f"{where}: hash is checked before ${{…}} is filled in")
        autodep = known.get("autodep", True)
        if not isinstance(autodep, bool):
            self.problems.append(f"{where}.autodep must be true or false, not {autodep!r}")
            autodep = True
        return BomFile(
            name=self.text(known.get("name"), f"{where}.name"),
            digest=digest,
            autodep=autodep,
            rename=self.optional_text(known.get("rename"), f"{where}.rename"),
        )
