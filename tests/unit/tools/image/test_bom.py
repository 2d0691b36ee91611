"""bom.yaml is read strictly, and materialised as Occlum's copy_bom documents it."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import pytest

from tools.errors import ImageBuildError
from tools.image.autodep import GLIBC_FOLDER
from tools.image.bom import read_bom, read_boms
from tools.image.interpreter import base_interpreter
from tools.image.materialise import materialise


class Workshop:
    """An instance folder with sources and a bom."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "image"

    def write(self, name: str, content: str = "x", mode: int = 0o644) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        path.chmod(mode)
        return path

    def make(self, bom: str, **environment: str) -> Path:
        path = self.write("bom.yaml", bom)
        materialise(read_boms(path), self.root, environment)
        return self.root

    def refused(self, bom: str, **environment: str) -> str:
        with pytest.raises(ImageBuildError) as caught:
            self.make(bom, **environment)
        return str(caught.value)


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


@pytest.mark.parametrize(
    ("bom", "reason"),
    [
        ("target: /bin", "unknown key 'target'"),
        ("targets: [{target: /a, copydirs: [x]}]", "targets[0]: unknown key 'copydirs'"),
        ("targets: [{target: /a, copy: [{files: [{name: x, mode: 1}]}]}]", "unknown key 'mode'"),
        ("targets: [{target: /a, createlinks: [{src: x, name: y}]}]", "unknown key 'name'"),
        ("targets: [{target: /a, copy: [{from: x, wildcard: y}]}]", "unknown key 'wildcard'"),
        ("targets: [{target: a}]", "must be absolute"),
        ("targets: [{target: /a/../b}]", "without '..'"),
        ("targets: [{target: /a, mkdirs: x}]", "mkdirs must be a list"),
        ("targets: [{target: /a, copy: [{}]}]", "names nothing to copy"),
        ("targets: {}", "targets must be a list"),
        ("[]", "the file must be a mapping"),
        ("{}", "would copy nothing"),
        ("targets: [", "can't be read as YAML"),
        (
            "targets: [{target: /a, copy: [{files: [{name: x, hash: abc}]}]}]",
            "must be 64 upper-case hex digits",
        ),
        (
            "targets: [{target: /a, copy: [{files: [{name: x, autodep: 1}]}]}]",
            "autodep must be true or false",
        ),
        (
            "targets: [{target: /a, copy: [{files: [{name: '${X}', hash: " + "A" * 64 + "}]}]}]",
            "hash is checked before",
        ),
    ],
)
def test_what_is_refused(workshop: Workshop, bom: str, reason: str) -> None:
    assert reason in workshop.refused(bom)
    assert not workshop.root.exists()


def test_all_problems_of_a_file_are_listed(workshop: Workshop) -> None:
    path = workshop.write("bom.yaml", "extra: 1\ntargets: [{target: a, typo: 1}]")
    with pytest.raises(ImageBuildError) as caught:
        read_bom(path)
    assert len(caught.value.problems) == 3


def test_folders_links_and_files(workshop: Workshop) -> None:
    workshop.write("one", mode=0o755)
    workshop.write("sub/two", "two")
    root = workshop.make(
        """
targets:
  - target: /a
    mkdirs: [b, c/d]
    createlinks: [{src: ../x, linkname: y}]
    copy:
      - files: [one, {name: sub/two, rename: three}]
  - target: /e
    copy: [{from: sub, files: [two]}]
"""
    )
    assert (root / "a/b").is_dir()
    assert (root / "a/c/d").is_dir()
    assert (root / "a/y").readlink() == Path("../x")
    assert (root / "a/one").stat().st_mode & 0o777 == 0o755
    assert (root / "a/three").read_text() == (root / "e/two").read_text() == "two"


def test_a_trailing_slash_copies_contents_only(workshop: Workshop) -> None:
    workshop.write("d/file")
    bom = "targets: [{target: /named, copy: [{dirs: [d]}]}, {target: /bare, copy: [{dirs: [d/]}]}]"
    root = workshop.make(bom)
    assert (root / "named/d/file").is_file()
    assert (root / "bare/file").is_file()
    assert not (root / "bare/d").exists()


def test_excludes_count_for_folders_of_their_own_bom_only(workshop: Workshop) -> None:
    for name in ("d/keep", "d/x.pyc", "d/__pycache__/y", "d/sub/drop/z", "d/top", "d/sub/top"):
        workshop.write(name)
    workshop.write("file.pyc")
    workshop.write("other.yaml", "targets: [{target: /other, copy: [{dirs: [d]}]}]")
    root = workshop.make(
        """
includes: [other.yaml]
excludes: ["*.pyc", __pycache__, "sub/drop", "/d/top"]
targets: [{target: /a, copy: [{dirs: [d], files: [file.pyc]}]}]
"""
    )
    copied = {str(p.relative_to(root / "a")) for p in (root / "a").rglob("*") if p.is_file()}
    assert copied == {"d/keep", "d/sub/top", "file.pyc"}
    assert (root / "other/d/x.pyc").is_file()


def test_links_are_kept_inside_the_tree_and_followed_out_of_it(workshop: Workshop) -> None:
    outside = workshop.write("outside", "outside")
    workshop.write("d/real", "real")
    (workshop.folder / "d/inner").symlink_to("real")
    (workshop.folder / "d/outer").symlink_to("../../" + workshop.folder.name + "/outside")
    (workshop.folder / "d/absolute").symlink_to(outside)
    (workshop.folder / "linked").symlink_to("outside")
    bom = "targets: [{target: /a, copy: [{dirs: [d], files: [linked]}]}]"
    root = workshop.make(bom)
    assert (root / "a/d/inner").readlink() == Path("real")
    for name in ("a/d/outer", "a/d/absolute", "a/linked"):
        assert not (root / name).is_symlink()
        assert (root / name).read_text() == "outside"


def test_a_hash_must_hold(workshop: Workshop) -> None:
    path = workshop.write("f", "content")
    digest = hashlib.sha256(path.read_bytes()).hexdigest().upper()
    bom = "targets: [{{target: /a, copy: [{{files: [{{name: f, hash: {}}}]}}]}}]"
    assert workshop.make(bom.format(digest)).is_dir()
    shutil.rmtree(workshop.root)
    assert "the bom expects" in workshop.refused(bom.format("A" * 64))
    assert not (workshop.root / "a").exists()


def test_everything_that_is_missing_is_listed(workshop: Workshop) -> None:
    message = workshop.refused(
        "targets: [{target: /a, copy: [{dirs: [nowhere], files: [nothing, '${UNSET}']}]}]"
    )
    assert "nowhere doesn't exist" in message
    assert "nothing doesn't exist" in message
    assert "${UNSET} isn't set" in message


def test_variables_are_filled_in(workshop: Workshop, tmp_path: Path) -> None:
    workshop.write("place/f")
    bom = "targets: [{target: '/$NAME', copy: [{from: '${PLACE}', files: [f]}]}]"
    assert (workshop.make(bom, NAME="a", PLACE="place") / "a/f").is_file()


def test_the_last_of_two_sources_counts(workshop: Workshop) -> None:
    workshop.write("p/f", "first")
    workshop.write("q/f", "last")
    workshop.write("p/d/only-in-first")
    workshop.write("q/d/only-in-last")
    root = workshop.make("targets: [{target: /a, copy: [{dirs: [p/d, q/d], files: [p/f, q/f]}]}]")
    assert (root / "a/f").read_text() == "last"
    assert [path.name for path in (root / "a/d").iterdir()] == ["only-in-last"]


def test_includes_come_after_the_file_that_names_them(workshop: Workshop) -> None:
    workshop.write("one", "one")
    workshop.write("two", "two")
    entry = "targets: [{{target: /a, copy: [{{files: [{{name: {}, rename: f}}]}}]}}]"
    workshop.write("included.yaml", entry.format("two"))
    root = workshop.make("includes: [included.yaml]\n" + entry.format("one"))
    assert (root / "a/f").read_text() == "two"


def test_includes_that_include_each_other_are_a_cycle(workshop: Workshop) -> None:
    assert "cycle" in workshop.refused("includes: [bom.yaml]")


def test_an_include_that_is_nowhere(workshop: Workshop) -> None:
    assert "include 'base.yaml' isn't in" in workshop.refused("includes: [base.yaml]")


def test_libraries_of_an_executable_come_along(workshop: Workshop) -> None:
    shutil.copy(base_interpreter(), workshop.folder / "python3")
    bom = "targets: [{target: /bin, copy: [{files: [python3]}]}]"
    root = workshop.make(bom)
    assert (root / GLIBC_FOLDER.lstrip("/") / "libc.so.6").is_file()
    assert os.access(root / "lib64/ld-linux-x86-64.so.2", os.X_OK)


def test_libraries_stay_away_without_autodep(workshop: Workshop) -> None:
    shutil.copy(base_interpreter(), workshop.folder / "python3")
    root = workshop.make(
        "targets: [{target: /bin, copy: [{files: [{name: python3, autodep: false}]}]}]"
    )
    assert [path.name for path in root.iterdir()] == ["bin"]


@pytest.mark.parametrize("entry", ["dirs: [d]", "dirs: [d/]", "from: d"])
def test_libraries_of_a_folder_come_along(workshop: Workshop, entry: str) -> None:
    (workshop.folder / "d").mkdir()
    shutil.copy(base_interpreter(), workshop.folder / "d/python3")
    root = workshop.make(f"targets: [{{target: /a, copy: [{{{entry}}}]}}]")
    assert (root / GLIBC_FOLDER.lstrip("/") / "libc.so.6").is_file()


def test_without_a_name_of_its_own_a_folder_is_looked_through_with_all_of_its_target(
    workshop: Workshop,
) -> None:
    workshop.write("empty/note")
    shutil.copy(base_interpreter(), workshop.folder / "python3")
    bom = """
targets:
  - target: /a
    copy: [{{files: [{{name: python3, autodep: false}}]}}, {{dirs: [{}]}}]
"""
    assert (workshop.make(bom.format("empty/")) / "opt").is_dir()
    shutil.rmtree(workshop.root)
    assert not (workshop.make(bom.format("empty")) / "opt").exists()


def test_nothing_is_written_outside_the_root(workshop: Workshop) -> None:
    workshop.write("f")
    bom = "targets: [{target: /a, mkdirs: [../../out], copy: [{files: [f]}]}]"
    assert "must stay below its target" in workshop.refused(bom)
    assert not (workshop.folder.parent / "out").exists()


@pytest.mark.parametrize(
    "entry",
    ["dirs: [.]", "dirs: [./]", "from: .", "from: ..", "dirs: [/]", "dirs: [up]", "dirs: [up/]"],
)
def test_a_folder_that_holds_the_image_is_not_copied_into_it(
    workshop: Workshop, entry: str
) -> None:
    """It would be copied into itself again and again until the disk is full."""
    (workshop.folder / "up").symlink_to("..")
    reason = workshop.refused(f"targets: [{{target: /a, copy: [{{{entry}}}]}}]")
    assert "holds the image that is being made" in reason
    assert not workshop.root.exists()


def test_a_link_that_leads_to_the_image_is_not_followed(workshop: Workshop) -> None:
    workshop.write("d/keep")
    (workshop.folder / "d" / "around").symlink_to(workshop.folder)
    (workshop.folder / "d" / "inside").symlink_to(workshop.root / "a")
    reason = workshop.refused("targets: [{target: /a, copy: [{dirs: [d]}]}]")
    assert "d/around holds the image" in reason
    assert "d/inside holds the image" in reason
    assert not (workshop.root / "a/d/around").exists()
    assert not (workshop.root / "a/d/inside").exists()


def test_folders_inside_one_another_without_end(workshop: Workshop) -> None:
    (workshop.folder / ("n/" * 600)).mkdir(parents=True)
    reason = workshop.refused("targets: [{target: /a, copy: [{dirs: [n]}]}]")
    assert "too many folders inside one another" in reason
    long = "n/" * 1900
    assert "can't make the folder" in workshop.refused(
        f"targets: [{{target: /a, mkdirs: [{long}]}}]"
    )
