"""Builds the root file system that a bom describes, as Occlum's copy_bom does.

The order is copy_bom's. First every bom is planned: paths are joined, then
variables are filled in, and of two entries with the same destination the last
one stays. Then, bom by bom: folders, links, folders' contents, files, shared
libraries of those files; the top bom first, then those that it includes. At
the end come the libraries of the copied folders: a folder that is named by
itself is looked through where it was put, one that is named with a trailing
slash, or by `from` alone, with everything else in its target.

Stricter than copy_bom: nothing is written outside of the root, and missing
sources, libraries that aren't found and variables that aren't set are problems.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from tools.errors import ImageBuildError
from tools.image.autodep import LibraryFinder
from tools.image.bom import Bom, BomFile, BomSource, BomTarget
from tools.image.rsync_copy import copy_file, copy_tree, is_entangled
from tools.image.shell_variables import fill

_Entry = TypeVar("_Entry")


@dataclass(slots=True)
class _Work:
    """What one bom asks for, with absolute sources and destinations below the root."""

    bom: Bom
    folders: list[Path] = field(default_factory=list)
    links: list[tuple[str, Path]] = field(default_factory=list)
    trees: list[tuple[str, Path]] = field(default_factory=list)
    files: list[tuple[Path, Path]] = field(default_factory=list)
    autodep: list[Path] = field(default_factory=list)
    libraries: list[tuple[Path, Path]] = field(default_factory=list)
    missing: list[tuple[Path, str]] = field(default_factory=list)


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
    finder = LibraryFinder()
    works = [_Planner(root, environment, finder).work(bom) for bom in boms]
    _keep_last(works)
    root.mkdir(parents=True, exist_ok=True)
    for work in works:
        if problems := _apply(work, root):
            raise ImageBuildError(str(work.bom.path), problems)
    named = {pair for work in works for pair in work.libraries}
    for work in works:
        if problems := _add_libraries_of_folders(work, root, finder, named):
            raise ImageBuildError(str(work.bom.path), problems)


class _Planner:
    """Turns a bom's entries into paths."""

    def __init__(self, root: Path, environment: Mapping[str, str], finder: LibraryFinder) -> None:
        self._root = root
        self._environment = environment
        self._finder = finder
        self._problems: list[str] = []

    def work(self, bom: Bom) -> _Work:
        """Plans one bom.

        Raises:
            ImageBuildError: lists everything that it names and that can't be used.
        """
        work = _Work(bom)
        for target in bom.targets:
            self._target(target, work)
        if self._problems:
            raise ImageBuildError(str(bom.path), self._problems)
        loader = self._finder.only_loader(work.autodep)
        for path in work.autodep:
            needs = self._finder.dependencies(path, loader)
            work.missing += [(path, name) for name in sorted(needs.missing)]
            work.libraries += [(s, self._root / d.lstrip("/")) for s, d in sorted(needs.found)]
        return work

    def _target(self, target: BomTarget, work: _Work) -> None:
        place = _joined(str(self._root), target.target.lstrip("/"))
        work.folders.append(self._inside(place))
        work.folders += [self._below(place, name) for name in target.mkdirs]
        for text, name in target.links:
            work.links.append((self._fill(text), self._named(place, name)))
        for source in target.sources:
            self._source(source, place, work)

    def _source(self, source: BomSource, place: str, work: _Work) -> None:
        instance, origin = str(self._root.parent), source.origin or ""
        base = _joined(instance, origin)
        if source.dirs is None and source.files is None:
            # Alone it isn't joined with anything, so that a variable in it may hold an absolute
            # path. A relative one starts where copy_bom is started: in the instance folder.
            whole = _joined(instance, self._fill(origin)).rstrip("/")
            work.trees.append((self._folder(f"{whole}/"), self._inside(place)))
        for name in source.dirs or ():
            work.trees.append((self._folder(self._fill(_joined(base, name))), self._inside(place)))
        for file in source.files or ():
            self._file(file, _joined(base, file.name), place, work)

    def _folder(self, path: str) -> str:
        if path.endswith("/.."):
            self._problems.append(f"folder {path} must not end in '..'")
        elif not _is_folder(path):
            self._problems.append(f"folder {path} doesn't exist{_hint(path)}")
        elif is_entangled(Path(path), self._root.resolve()):
            self._problems.append(f"folder {path} holds the image that is being made")
        # To rsync `folder/.` is the contents of a folder as well.
        return path.removesuffix(".") if path.endswith("/.") else path

    def _file(self, file: BomFile, unfilled: str, place: str, work: _Work) -> None:
        text = self._fill(unfilled)
        path = Path(text)
        if text.endswith("/") or not _is_file(path):
            what = "is a folder; name it under dirs" if _is_folder(text) else "doesn't exist"
            self._problems.append(f"file {text} {what}{_hint(text)}")
            return
        if not os.access(path, os.R_OK):
            self._problems.append(f"file {text} can't be read")
            return
        if file.digest is not None:
            actual = hashlib.sha256(path.read_bytes()).hexdigest().upper()
            if actual != file.digest:
                self._problems.append(
                    f"file {path} has hash {actual}, the bom expects {file.digest}"
                )
        work.files.append((path, self._named(place, file.rename or Path(unfilled).name)))
        if file.autodep:
            work.autodep.append(path)

    def _named(self, place: str, name: str) -> Path:
        if name.endswith("/"):
            self._problems.append(f"{name!r} must be a name, without a slash at its end")
        return self._below(place, name)

    def _below(self, place: str, name: str) -> Path:
        if name.startswith("/") or ".." in Path(name).parts:
            self._problems.append(f"{name!r} must stay below its target, without '..'")
        return self._inside(_joined(place, name.lstrip("/")))

    def _inside(self, place: str) -> Path:
        """A destination, variables filled in."""
        path = Path(self._fill(place))
        if not path.is_relative_to(self._root) or ".." in path.relative_to(self._root).parts:
            self._problems.append(f"{place} leads out of the image: {path}")
        return path

    def _fill(self, text: str) -> str:
        try:
            return fill(text, self._environment)
        except ValueError as error:
            if str(error) not in self._problems:
                self._problems.append(str(error))
            return text


def _joined(base: str, name: str) -> str:
    """Joins two texts as paths; a slash at the end means something and stays."""
    return name if name.startswith("/") else f"{base.rstrip('/')}/{name}"


def _is_folder(path: str) -> bool:
    try:
        return Path(path).is_dir()
    except OSError:
        return False


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False


def _hint(path: str) -> str:
    if "//" not in path:
        return ""
    return (
        "; copy_bom puts the instance folder in front and fills variables in afterwards: "
        "give a relative value, or name the folder by 'from' alone"
    )


def _keep_last(works: Sequence[_Work]) -> None:
    """Of several entries with one destination, the last one stays; a library counts least."""
    links: set[object] = set()
    trees: set[object] = set()
    files: set[object] = set()
    for work in reversed(works):
        work.links = _last(work.links, links, lambda pair: pair[1])
        work.trees = _last(work.trees, trees, lambda pair: pair[1] / Path(pair[0]).name)
        work.files = _last(work.files, files, lambda pair: pair[1])
        work.libraries = _last(work.libraries, files, lambda pair: pair[1])


def _last(
    entries: list[_Entry], seen: set[object], key: Callable[[_Entry], object]
) -> list[_Entry]:
    kept: list[_Entry] = []
    for entry in reversed(entries):
        if key(entry) not in seen:
            seen.add(key(entry))
            kept.append(entry)
    return kept[::-1]


def _apply(work: _Work, root: Path) -> list[str]:
    problems: list[str] = []
    for folder in work.folders:
        problems += _make_folder(folder, root)
    for text, link in work.links:
        problems += _make_link(text, link, root)
    if problems:
        return problems
    for tree, place in work.trees:
        problems += _leaving(place, root) or copy_tree(tree, place, work.bom.excludes, root)
    for source, destination in work.files:
        problems += _copy(source, destination, root)
    if problems:
        return problems
    for source, destination in work.libraries:
        problems += _make_folder(destination.parent, root) or _copy(source, destination, root)
    for path, name in work.missing:
        if all(file.name != Path(name).name for file in root.rglob("*")):
            problems.append(f"{path} needs the library {name}, which wasn't found")
    return problems


def _make_folder(folder: Path, root: Path) -> list[str]:
    if problems := _leaving(folder, root):
        return problems
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RecursionError) as error:
        return [f"can't make the folder {folder}: {error}"]
    return []


def _make_link(text: str, link: Path, root: Path) -> list[str]:
    if problems := _leaving(link.parent, root):
        return problems
    try:
        if link.is_symlink() or not link.is_dir():
            link.unlink(missing_ok=True)
        link.symlink_to(text)
    except OSError as error:
        return [f"can't make the link {link}: {error.strerror}"]
    return []


def _copy(source: Path, destination: Path, root: Path) -> list[str]:
    into = destination if _is_folder(str(destination)) else destination.parent
    return _leaving(into, root) or copy_file(source, destination)


def _leaving(place: Path, root: Path) -> list[str]:
    """A problem when a link in the image leads out of it, which copy_bom would follow."""
    try:
        resolved = place.resolve()
    except RuntimeError:
        return [f"{place} is a link that leads to itself"]
    if resolved.is_relative_to(root.resolve()):
        return []
    return [f"{place} leads out of the image, to {resolved}"]


def _add_libraries_of_folders(
    work: _Work, root: Path, finder: LibraryFinder, named: set[tuple[Path, Path]]
) -> list[str]:
    """Copies what the files of copied folders need into the image.

    A library that isn't found is no problem here: packages carry libraries that find each other
    only when they are loaded together. `link_problems` looks at the whole.
    """
    tops = [place / tree.rpartition("/")[2] for tree, place in work.trees]
    found = [path for top in tops for path in sorted(top.rglob("*"))]
    paths = [path for path in found if path.is_file() and not path.is_symlink()]
    loader = finder.only_loader(paths)
    needed = {pair for path in paths for pair in finder.dependencies(path, loader).found}
    libraries = {
        (source, root / destination.lstrip("/"))
        for source, destination in needed
        if not str(source.absolute()).startswith(str(root))
    }
    problems: list[str] = []
    for source, destination in sorted(libraries - named):
        problems += _make_folder(destination.parent, root) or _copy(source, destination, root)
    return problems
