"""Reads bom.yaml strictly.

Occlum's copy_bom ignores keys that it doesn't know, so that a misspelt one
silently copies nothing; here every such key is a problem, and all of them are
listed.

A value's type is decided by its place, as in copy_bom: where a text belongs,
`010` and `on` are texts. The entries of `files` may be of two kinds, and there
a plain `010` is a text but `10` a number, which is refused: YAML 1.2's core
types, not the ones of YAML 1.1 that PyYAML would choose by itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from tools.errors import ImageBuildError

MAX_INCLUDED_BOMS = 100
"""As in copy_bom: more are taken for a cycle."""

_NOT_IN_PATHS = re.compile("[\0\ud800-\udfff]")
_NULLS = ("", "~", "null")
_BOOLEANS = {"true": True, "false": False}
_NUMBER = re.compile(
    r"[-+]?(0x[0-9A-Fa-f]+|0o[0-7]+|0b[01]+|0|[1-9][0-9]*|\.inf|\.Inf|\.INF"
    r"|([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?)|\.nan|\.NaN|\.NAN"
)


@dataclass(frozen=True, slots=True)
class BomFile:
    """One file to copy; `digest` is its SHA-256 in upper-case hex or None."""

    name: str
    digest: str | None = None
    autodep: bool = True
    rename: str | None = None


@dataclass(frozen=True, slots=True)
class BomSource:
    """Folders and files that are copied from one place; without either, all of `origin`."""

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
        text = path.read_text(encoding="utf-8")
        content = yaml.compose(text, Loader=yaml.BaseLoader)
        tagged = any(getattr(event, "tag", None) for event in yaml.parse(text, yaml.BaseLoader))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise ImageBuildError(str(path), [f"can't be read as YAML: {error}"]) from error
    reader = _Reader()
    if tagged:
        reader.problems.append("has a tag like '!!str'; put a text in quotes instead")
    top = reader.mapping(content, "the file", {"includes", "excludes", "targets"})
    targets = reader.items(top.get("targets"), "targets") or ()
    bom = Bom(
        path=path,
        includes=reader.texts(top.get("includes"), "includes") or (),
        excludes=reader.excludes(top.get("excludes")),
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

    def mapping(
        self, node: yaml.Node | None, where: str, known: set[str]
    ) -> Mapping[str, yaml.Node]:
        if not isinstance(node, yaml.MappingNode):
            self.problems.append(f"{where} must be a mapping, not {_shown(node)}")
            return {}
        values: dict[str, yaml.Node] = {}
        for key, value in node.value:
            name = str(key.value) if isinstance(key, yaml.ScalarNode) else _shown(key)
            if name not in known:
                self.problems.append(
                    f"{where}: unknown key {name!r}; known are {', '.join(sorted(known))}"
                )
            if name in values:
                self.problems.append(f"{where}: key {name!r} occurs twice")
            values[name] = value
        return values

    def items(self, node: yaml.Node | None, where: str) -> list[yaml.Node] | None:
        if _is_null(node):
            return None
        if not isinstance(node, yaml.SequenceNode):
            self.problems.append(f"{where} must be a list, not {_shown(node)}")
            return None
        return list(node.value)

    def text(self, node: yaml.Node | None, where: str) -> str:
        text = node.value if isinstance(node, yaml.ScalarNode) else ""
        if not text or _NOT_IN_PATHS.search(text):
            self.problems.append(f"{where} must be a text, not {_shown(node)}")
            return "?"
        return str(text)

    def optional_text(self, node: yaml.Node | None, where: str) -> str | None:
        return None if _is_null(node) else self.text(node, where)

    def texts(self, node: yaml.Node | None, where: str) -> tuple[str, ...] | None:
        items = self.items(node, where)
        if items is None:
            return None
        return tuple(self.text(item, f"{where}[{i}]") for i, item in enumerate(items))

    def excludes(self, node: yaml.Node | None) -> tuple[str, ...]:
        patterns = self.texts(node, "excludes") or ()
        for pattern in patterns:
            if pattern == "!" or pattern.startswith(("+ ", "- ")):
                self.problems.append(
                    f"excludes: {pattern!r} is a rule of its own to rsync; name a pattern"
                )
        return patterns

    def target(self, node: yaml.Node, where: str) -> BomTarget:
        known = self.mapping(node, where, {"target", "mkdirs", "createlinks", "copy"})
        target = self.text(known.get("target"), f"{where}.target")
        if not target.startswith("/") or ".." in Path(target).parts:
            self.problems.append(f"{where}.target must be absolute and without '..': {target!r}")
        links = self.items(known.get("createlinks"), f"{where}.createlinks") or ()
        sources = self.items(known.get("copy"), f"{where}.copy") or ()
        return BomTarget(
            target=target,
            mkdirs=self.texts(known.get("mkdirs"), f"{where}.mkdirs") or (),
            links=tuple(
                self.link(item, f"{where}.createlinks[{i}]") for i, item in enumerate(links)
            ),
            sources=tuple(
                self.source(item, f"{where}.copy[{i}]") for i, item in enumerate(sources)
            ),
        )

    def link(self, node: yaml.Node, where: str) -> tuple[str, str]:
        known = self.mapping(node, where, {"src", "linkname"})
        src = self.text(known.get("src"), f"{where}.src")
        return src, self.text(known.get("linkname"), f"{where}.linkname")

    def source(self, node: yaml.Node, where: str) -> BomSource:
        known = self.mapping(node, where, {"from", "dirs", "files"})
        origin = self.optional_text(known.get("from"), f"{where}.from")
        dirs = self.texts(known.get("dirs"), f"{where}.dirs")
        files = self.items(known.get("files"), f"{where}.files")
        # An empty list isn't the same as none: with `from`, none copies all of it.
        whole = origin is not None and dirs is None and files is None
        if not (whole or dirs or files):
            self.problems.append(f"{where} names nothing to copy")
        return BomSource(
            origin=origin,
            dirs=dirs,
            files=None
            if files is None
            else tuple(self.file(item, f"{where}.files[{i}]") for i, item in enumerate(files)),
        )

    def file(self, node: yaml.Node, where: str) -> BomFile:
        if isinstance(node, yaml.ScalarNode):
            return BomFile(self.typed_text(node, where))
        known = self.mapping(node, where, {"name", "hash", "autodep", "rename"})
        name = self.typed_text(known.get("name"), f"{where}.name")
        digest = self.optional_typed_text(known.get("hash"), f"{where}.hash")
        if digest is not None and (len(digest) != 64 or set(digest) - set("0123456789ABCDEF")):
            self.problems.append(f"{where}.hash must be 64 upper-case hex digits")
        if digest is not None and "$" in name:
            self.problems.append(f"{where}: hash is checked before ${{…}} is filled in")
        return BomFile(
            name=name,
            digest=digest,
            autodep=self.boolean(known.get("autodep"), f"{where}.autodep"),
            rename=self.optional_typed_text(known.get("rename"), f"{where}.rename"),
        )

    def typed_text(self, node: yaml.Node | None, where: str) -> str:
        """A text where copy_bom would take a number for a number."""
        text = self.text(node, where)
        if _is_plain(node) and (_is_null(node) or text in _BOOLEANS or _NUMBER.fullmatch(text)):
            self.problems.append(f"{where} must be a text, not {text}; put it in quotes")
        return text

    def optional_typed_text(self, node: yaml.Node | None, where: str) -> str | None:
        return None if _is_null(node) else self.typed_text(node, where)

    def boolean(self, node: yaml.Node | None, where: str) -> bool:
        if _is_null(node):
            return True
        if not isinstance(node, yaml.ScalarNode) or not _is_plain(node):
            self.problems.append(f"{where} must be true or false, not {_shown(node)}")
            return True
        if node.value not in _BOOLEANS:
            self.problems.append(f"{where} must be true or false, not {node.value}")
        return _BOOLEANS.get(node.value, True)


def _is_plain(node: yaml.Node | None) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.style is None


def _is_null(node: yaml.Node | None) -> bool:
    return node is None or (
        isinstance(node, yaml.ScalarNode) and node.style is None and node.value in _NULLS
    )


def _shown(node: yaml.Node | None) -> str:
    if isinstance(node, yaml.ScalarNode):
        return repr(node.value)
    return {"sequence": "a list", "mapping": "a mapping"}.get(getattr(node, "id", ""), "nothing")
