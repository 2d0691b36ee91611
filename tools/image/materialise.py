"""Builds the root file system that a bom describes, as Occlum's copy_bom does.

The order is copy_bom's: folders, links, folders' contents, files, shared
libraries; the top bom first, then those that it includes. Where two entries
have the same destination, the last one counts, and a named file counts more
than a library found by itself. Read from copy_bom's source as well: libraries
are looked up for files, and for folders named without a trailing slash.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from tools.errors import ImageBuildError
from tools.image.autodep import LibraryFinder
from tools.image.bom import Bom, BomFile, BomSource, BomTarget
from tools.image.rsync_rules import is_excluded, leaves_the_tree

_VARIABLE = re.compile(r"\$\{(\w+)\}|\$(\w+)")


@dataclass(slots=True)
class _Work:
    """What one bom asks for, with absolute sources and destinations below the root."""

    folders: list[Path] = field(default_factory=list)
    links: list[tuple[str, Path]] = field(default_factory=list)
    trees: list[tuple[str, Path]] = field(default_factory=list)
    files: list[tuple[Path, Path]] = field(default_factory=list)
    autodep: list[Path] = field(default_factory=list)


def materialise(boms: Sequence[Bom], root: Path, environment: Mapping[str, str]) -> None:
    """Fills an empty folder with everything that the boms name.

    Args:
        boms: in copy_bom's order, from `read_boms`.
        root: the folder to fill. Relative sources start in its parent, the instance folder.
        environment: fills in `${NAME}` in paths.

    Raises:
        ImageBuildError: lists all missing sources, wrong hashes and missing libraries of a step.
    """
    root = root.absolute()
    root.mkdir(parents=True, exist_ok=True)
    finder = LibraryFinder()
    done: list[_Work] = []
    problems: list[str] = []
    for bom in boms:
        planner = _Planner(root, environment, problems)
        work = planner.work(bom)
        if problems:
            raise ImageBuildError(str(bom.path), problems)
        _apply(work, bom.excludes, problems)
        problems += _add_libraries(work.autodep, root, finder, named=_destinations(work))
        if problems:
            raise ImageBuildError(str(bom.path), problems)
        done.append(work)
    for work in done:
        _add_libraries(_copied_files(work), root, finder, named=_destinations(work))


class _Planner:
    """Turns a bom's entries into paths."""

    def __init__(self, root: Path, environment: Mapping[str, str], problems: list[str]) -> None:
        self._root = root
        self._environment = environment
        self._problems = problems

    def work(self, bom: Bom) -> _Work:
        work = _Work()
        for target in bom.targets:
            self._target(target, work)
        work.trees = _last_of_each(work.trees)
        return work

    def _target(self, target: BomTarget, work: _Work) -> None:
        place = self._inside(self._fill(target.target))
        work.folders.append(place)
        work.folders += [self._below(place, self._fill(name)) for name in target.mkdirs]
        work.links += [
            (self._fill(text), self._below(place, self._fill(name))) for text, name in target.links
        ]
        for source in target.sources:
            self._source(source, place, work)

    def _source(self, source: BomSource, place: Path, work: _Work) -> None:
        base = self._root.parent / self._fill(source.origin or "")
        if source.dirs is None and source.files is None:
            # copy_bom takes this one form relative to the current folder.
            work.trees.append((f"{self._fill(source.origin or '').rstrip('/')}/", place))
        for name in source.dirs or ():
            work.trees.append((self._tree(base, self._fill(name)), place))
        for file in source.files or ():
            self._file(file, base, place, work)

    def _tree(self, base: Path, name: str) -> str:
        path = base / name
        if not path.is_dir():
            self._problems.append(f"folder {path} doesn't exist")
        return f"{path}/" if name.endswith("/") else str(path)

    def _file(self, file: BomFile, base: Path, place: Path, work: _Work) -> None:
        path = base / self._fill(file.name)
        if not path.is_file():
            self._problems.append(f"file {path} doesn't exist")
            return
        if file.digest is not None:
            actual = hashlib.sha256(path.read_bytes()).hexdigest().upper()
            if actual != file.digest:
                self._problems.append(
                    f"file {path} has hash {actual}, the bom expects {file.digest}"
                )
        work.files.append((path, self._below(place, file.rename or path.name)))
        if file.autodep:
            work.autodep.append(path)

    def _inside(self, absolute: str) -> Path:
        return self._root / absolute.lstrip("/")

    def _below(self, place: Path, name: str) -> Path:
        if name.startswith("/") or ".." in Path(name).parts:
            self._problems.append(f"{name!r} must stay below its target, without '..'")
        return place / name.lstrip("/")

    def _fill(self, text: str) -> str:
        def value(match: re.Match[str]) -> str:
            name = match[1] or match[2]
            if name not in self._environment:
                self._problems.append(f"{text!r}: ${{{name}}} isn't set")
            return self._environment.get(name, match[0])

        return _VARIABLE.sub(value, text)


def _last_of_each(trees: Sequence[tuple[str, Path]]) -> list[tuple[str, Path]]:
    last = {place / Path(tree).name: index for index, (tree, place) in enumerate(trees)}
    return [trees[index] for index in sorted(last.values())]


def _apply(work: _Work, excludes: Sequence[str], problems: list[str]) -> None:
    for folder in work.folders:
        folder.mkdir(parents=True, exist_ok=True)
    for text, link in work.links:
        link.unlink(missing_ok=True)
        link.symlink_to(text)
    for tree, place in work.trees:
        _copy_tree(tree, place, excludes, problems)
    for source, destination in work.files:
        destination.unlink(missing_ok=True)
        shutil.copy(source, destination)


def _copy_tree(tree: str, place: Path, excludes: Sequence[str], problems: list[str]) -> None:
    """Copies a folder, or only its contents when its name ends in a slash."""
    top = Path(tree)
    prefix = PurePosixPath() if tree.endswith("/") else PurePosixPath(top.name)
    waiting = [(top, prefix)]
    while waiting:
        folder, relative = waiting.pop()
        (place / relative).mkdir(parents=True, exist_ok=True)
        if relative.parts:
            shutil.copymode(folder, place / relative)
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            path = relative / entry.name
            if is_excluded(path, entry.is_dir(follow_symlinks=False), excludes):
                continue
            kept_link = entry.is_symlink() and not leaves_the_tree(
                path, str(Path(entry).readlink())
            )
            if kept_link:
                (place / path).unlink(missing_ok=True)
                (place / path).symlink_to(Path(entry).readlink())
            elif entry.is_dir():
                waiting.append((Path(entry), path))
            elif entry.is_file():
                (place / path).unlink(missing_ok=True)
                shutil.copy(entry, place / path)
            else:
                problems.append(f"{entry.path} is neither a file nor a folder nor a link to one")


def _destinations(work: _Work) -> set[Path]:
    return {destination for _, destination in work.files}


def _copied_files(work: _Work) -> list[Path]:
    """Files below the folders that were copied by name."""
    tops = [place / Path(tree).name for tree, place in work.trees if not tree.endswith("/")]
    found = [path for top in tops for path in sorted(top.rglob("*"))]
    return [path for path in found if path.is_file() and not path.is_symlink()]


def _add_libraries(
    paths: Sequence[Path], root: Path, finder: LibraryFinder, named: set[Path]
) -> list[str]:
    """Copies what the files need into the image.

    Returns:
        A problem for every library that neither the host nor the image has.
    """
    loader = finder.only_loader(paths)
    problems: list[str] = []
    copied: set[tuple[Path, str]] = set()
    for path in paths:
        needs = finder.dependencies(path, loader)
        copied |= {(s, d) for s, d in needs.found if not s.absolute().is_relative_to(root)}
        for name in sorted(needs.missing):
            if next(root.rglob(name), None) is None:
                problems.append(f"{path} needs the library {name}, which wasn't found")
    for source, destination in sorted(copied):
        target = root / destination.lstrip("/")
        if target in named or target.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
    return problems
