"""Edge cases of bom.yaml: the stand-in makes the tree that Occlum's copy_bom makes, or refuses.

What the real tools do was recorded: `copy_bom.json` by taking copy_bom's steps, in the order of its
source, with its own YAML and variable libraries (serde_yaml 0.8, shellexpand 2.1) and the real
rsync; `bom_types.json` with the YAML library alone; `rsync_excludes.json` with rsync alone. A row
whose outcome differs on purpose says why.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from tests.unit.tools.image.sources import make_sources, tree_of
from tools.errors import ImageBuildError
from tools.image.bom import Bom, BomFile, BomSource, BomTarget, read_bom, read_boms
from tools.image.materialise import materialise
from tools.image.rsync_rules import is_excluded, leaves_the_tree
from tools.image.shell_variables import fill

RECORDED = Path(__file__).with_name("recorded")
CASES: list[dict[str, Any]] = json.loads((RECORDED / "copy_bom.json").read_text(encoding="utf-8"))
TYPES: list[tuple[str, dict[str, Any] | None]] = json.loads(
    (RECORDED / "bom_types.json").read_text(encoding="utf-8")
)
EXCLUDES: dict[str, Any] = json.loads(
    (RECORDED / "rsync_excludes.json").read_text(encoding="utf-8")
)
STRICTER_TYPES = {
    "{}": "it would copy nothing",
    "targets: ~": "it would copy nothing",
    "[]": "a mapping is meant",
    "targets: [{target: /a, copy: [{from: ~}]}]": "copy_bom itself stops later: from is empty",
    "targets: [{target: /a, copy: [{from: null, files: ~}]}]": "likewise",
}


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[Path]:
    """A folder with the sources of all cases; modes as they were recorded."""
    before = os.umask(0o022)
    folder = tmp_path / "instance"
    folder.mkdir()
    make_sources(folder)
    yield folder
    os.umask(before)
    for closed in tmp_path.rglob("closed"):
        closed.chmod(0o755)


def make(instance: Path, bom: str, environment: dict[str, str]) -> list[str]:
    path = instance / "bom.yaml"
    path.write_text(bom.replace("@", str(instance)), encoding="utf-8")
    filled = {name: text.replace("@", str(instance)) for name, text in environment.items()}
    materialise(read_boms(path), instance / "image", filled)
    return tree_of(instance / "image", instance)


@pytest.mark.parametrize("row", CASES, ids=lambda row: row["case"])
def test_a_tree_is_the_recorded_one_or_refused(instance: Path, row: dict[str, Any]) -> None:
    if "tree" in row and "stricter" not in row:
        assert make(instance, row["bom"], row["environment"]) == row["tree"]
        return
    before = tree_of(instance, instance)
    with pytest.raises(ImageBuildError) as caught:
        make(instance, row["bom"], row["environment"])
    assert all(caught.value.problems)
    kept = [line for line in tree_of(instance, instance) if " image" not in line]
    assert [line for line in kept if " bom.yaml" not in line] == before


def test_a_row_is_stricter_only_where_copy_bom_accepts() -> None:
    assert all(("tree" in row) != ("status" in row) for row in CASES)
    assert all("tree" in row for row in CASES if "stricter" in row)


@pytest.mark.parametrize(("document", "parsed"), TYPES, ids=[document for document, _ in TYPES])
def test_values_have_the_types_that_copy_bom_gives_them(
    tmp_path: Path, document: str, parsed: dict[str, Any] | None
) -> None:
    path = tmp_path / "bom.yaml"
    path.write_text(document, encoding="utf-8")
    if parsed is None or document in STRICTER_TYPES:
        with pytest.raises(ImageBuildError):
            read_bom(path)
        return
    assert read_bom(path) == bom_of(path, parsed)


def bom_of(path: Path, parsed: dict[str, Any]) -> Bom:
    """What copy_bom's own library read; outside of a source, null is an empty list."""
    return Bom(
        path=path,
        includes=tuple(parsed["includes"] or ()),
        excludes=tuple(parsed["excludes"] or ()),
        targets=tuple(
            BomTarget(
                target=target["target"],
                mkdirs=tuple(target["mkdirs"] or ()),
                links=tuple(
                    (link["src"], link["linkname"]) for link in target["createlinks"] or ()
                ),
                sources=tuple(_source(source) for source in target["copy"] or ()),
            )
            for target in parsed["targets"] or ()
        ),
    )


def _source(parsed: dict[str, Any]) -> BomSource:
    dirs, files = parsed["dirs"], parsed["files"]
    return BomSource(
        origin=parsed["from"],
        dirs=None if dirs is None else tuple(dirs),
        files=None if files is None else tuple(_file(file) for file in files),
    )


def _file(parsed: str | dict[str, Any]) -> BomFile:
    if isinstance(parsed, str):
        return BomFile(parsed)
    autodep = parsed["autodep"] is not False
    return BomFile(parsed["name"], parsed["hash"], autodep, parsed["rename"])


@pytest.mark.parametrize("pattern", EXCLUDES["excluded"])
def test_excludes_are_rsyncs(pattern: str) -> None:
    is_file = {PurePosixPath(path): not path.endswith("/") for path in EXCLUDES["paths"]}
    for path in list(is_file):
        is_file.update({parent: False for parent in path.parents if parent.parts})
    for top, recorded in zip(("", "d"), EXCLUDES["excluded"][pattern], strict=True):
        seen = {path.relative_to(top): kind for path, kind in is_file.items() if str(path) != top}
        out = {path for path, kind in seen.items() if is_excluded(path, not kind, [pattern])}
        # What lies in an excluded folder is never looked at.
        out |= {path for path in seen if out & set(path.parents)}
        assert sorted(str(path) for path in out) == recorded


@pytest.mark.parametrize(
    ("link", "text", "leaves"),
    [
        ("d/l", "real", False),
        ("d/l", "..", False),
        ("d/l", "../real", False),
        ("l", "../real", True),
        ("d/l", "../../real", True),
        ("d/s/l", "../../real", False),
        ("d/s/l", "..//../real", False),
        ("d/l", "/etc", True),
        ("d/l", "./real", False),
        ("d/l", "s/", False),
        # Since rsync 3.4, though each of these ends inside.
        ("d/l", "s/../real", True),
        ("d/l", "./../real", True),
        ("d/s/l", "../..", True),
        ("d/l", "s/..", True),
        ("d/l", "..real", False),
        ("d/l", "...", False),
    ],
)
def test_links_leave_the_tree_as_rsync_has_it(link: str, text: str, leaves: bool) -> None:
    assert leaves_the_tree(PurePosixPath(link), text) == leaves


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("$A/${A}x/$A.b", "va/vax/va.b"),
        ("$$A", "$A"),
        ("$$$A", "$va"),
        ("a$/$-x$", "a$/$-x$"),
        ("${UNSET:-d}", "d"),
        ("${UNSET:-}", ""),
        ("${A:-d}", "va"),
        ("${EMPTY:-d}|$EMPTY", "|"),
        ("${UNSET:-$A}", "$A"),
        ("${UNSET:-a:-b}", "a:-b"),
        ("${UNSET:-a}b}", "ab}"),
        ("~/$A", "~/va"),
    ],
)
def test_variables_are_filled_in_as_shellexpand_does(text: str, filled: str) -> None:
    assert fill(text, {"A": "va", "EMPTY": ""}) == filled


@pytest.mark.parametrize(
    "text", ["$UNSET", "${UNSET}", "$Ax", "${UNSET-d}", "${}", "${:-d}", "$1", "${A", "${A B}"]
)
def test_a_variable_without_a_value_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"isn't set|write a variable"):
        fill(text, {"A": "va"})
