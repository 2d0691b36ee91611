"""Whatever a bom says: a root file system or a list of problems, and nothing outside of it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.tools.image.sources import make_sources, tree_of
from tools.errors import ImageBuildError
from tools.image.bom import read_boms
from tools.image.materialise import materialise

NAMES = st.sampled_from(
    [
        *("a", "b", "d", "f", "d/sub", "d/a.c", "links", "links/out_folder", "to_d", "nowhere"),
        *("..", ".", "/", "../..", "a/..", "d/", "d/.", "a/b/c", "absent", "image", "image/a"),
        *("$V", "${V}/f", "${UNSET}", "${UNSET:-d}", "$$", "@/e", "@/d", "x" * 300, "a b", "~"),
        *("cycle", "dangling_out", "private/", "folder_a.c/", "*", "\n"),
    ]
)
TARGETS = st.one_of(st.sampled_from(["/", "/a", "/a/b", "/d", "/f", "//a/", "/$V"]), NAMES)
FILES = st.one_of(
    NAMES,
    st.fixed_dictionaries({"name": NAMES}, optional={"rename": NAMES, "autodep": st.booleans()}),
)
SOURCES = st.fixed_dictionaries(
    {},
    optional={
        "from": NAMES,
        "dirs": st.one_of(st.none(), st.lists(NAMES, max_size=2)),
        "files": st.one_of(st.none(), st.lists(FILES, max_size=2)),
    },
)
BOMS = st.fixed_dictionaries(
    {
        "targets": st.lists(
            st.fixed_dictionaries(
                {"target": TARGETS},
                optional={
                    "mkdirs": st.lists(NAMES, max_size=2),
                    "createlinks": st.lists(
                        st.fixed_dictionaries({"src": NAMES, "linkname": NAMES}), max_size=2
                    ),
                    "copy": st.lists(SOURCES, max_size=2),
                },
            ),
            max_size=3,
        )
    },
    optional={"excludes": st.lists(NAMES, max_size=2)},
)
VALUES = st.sampled_from(["d", "..", "/e", "", "a/b", "@", "../../x", "$V"])


@pytest.fixture(autouse=True)
def modes() -> Iterator[None]:
    """The sources are written with the modes that they are to have."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@settings(max_examples=150)
@given(bom=BOMS, value=VALUES)
def test_a_bom_gives_a_tree_or_problems_and_touches_nothing_else(
    bom: dict[str, object], value: str
) -> None:
    with tempfile.TemporaryDirectory() as name:
        around = Path(name).resolve()
        instance = around / "instance"
        instance.mkdir()
        make_sources(instance)
        text = yaml.safe_dump(bom).replace("@", str(instance))
        (instance / "bom.yaml").write_text(text, encoding="utf-8")
        before = tree_of(around, around)
        try:
            environment = {"V": value.replace("@", str(instance))}
            materialise(read_boms(instance / "bom.yaml"), instance / "image", environment)
        except ImageBuildError as error:
            assert all(error.problems)
        after = tree_of(around, around)
        assert [line for line in after if "instance/image" not in line.partition(": ")[0]] == before
        (instance / "closed").chmod(0o755)
