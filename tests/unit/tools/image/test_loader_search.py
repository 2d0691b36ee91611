"""Libraries are found in the order of glibc's loader, which was compared with `ld.so --list`."""

from __future__ import annotations

import pytest

from tools.image.elf import ElfFacts
from tools.image.loader_search import Libraries, load


def elf(
    *needed: str,
    run_path: tuple[str, ...] = (),
    old_run_path: tuple[str, ...] = (),
    soname: tuple[str, ...] = (),
) -> ElfFacts:
    """A library with nothing but names."""
    return ElfFacts("ET_DYN", None, needed, soname, run_path, old_run_path, (0, 0))


def find(files: dict[str, ElfFacts], *library_path: str, first: str = "/p/m") -> Libraries:
    return load(first, files.get, library_path, default_folders=["/default"])


PLACES = {f"/{folder}/a": elf() for folder in ("own", "old", "asked", "default")}


@pytest.mark.parametrize(
    ("program", "place"),
    [
        (elf("a", old_run_path=("/old",)), "/old/a"),
        (elf("a", run_path=("/own",)), "/asked/a"),
        (elf("a", run_path=("/own",), old_run_path=("/old",)), "/asked/a"),
        (elf("a"), "/asked/a"),
        (elf("/own/a"), "/own/a"),
    ],
)
def test_the_old_run_path_comes_before_what_is_asked_for_and_the_new_one_after(
    program: ElfFacts, place: str
) -> None:
    assert find({"/p/m": program, **PLACES}, "/asked").found[program.needed[0]] == place


@pytest.mark.parametrize(
    ("program", "place"),
    [
        (elf("a", run_path=("/own",)), "/own/a"),
        (elf("a", run_path=("/nowhere",), old_run_path=("/old",)), "/default/a"),
        (elf("a"), "/default/a"),
        (elf("a", run_path=("$ORIGIN/../own",)), "/p/../own/a"),
        (elf("a", run_path=("${ORIGIN}",)), "/p/a"),
    ],
)
def test_without_anything_asked_for(program: ElfFacts, place: str) -> None:
    more = {"/p/../own/a": elf(), "/p/a": elf()}
    assert find({"/p/m": program, **PLACES, **more}).found == {"a": place}


def test_an_old_run_path_counts_for_what_its_libraries_need() -> None:
    files = {"/p/m": elf("a", old_run_path=("/x",)), "/x/a": elf("b"), "/x/b": elf()}
    assert find(files).found == {"a": "/x/a", "b": "/x/b"}


def test_an_old_run_path_does_not_count_for_a_library_with_a_new_one() -> None:
    files = {
        "/p/m": elf("a", old_run_path=("/x",)),
        "/x/a": elf("b", run_path=("/y",)),
        "/x/b": elf(),
    }
    assert find(files).missing == [("/x/a", "b")]


def test_a_new_run_path_counts_for_its_own_file_alone() -> None:
    files = {"/p/m": elf("a", run_path=("/x",)), "/x/a": elf("b"), "/x/b": elf()}
    assert find(files).missing == [("/x/a", "b")]


def test_what_is_loaded_is_not_looked_for_again() -> None:
    files = {
        "/p/m": elf("a", "b", run_path=("/x",)),
        "/x/a": elf("b", run_path=("/y",)),
        "/x/b": elf(),
        "/y/b": elf(),
    }
    assert find(files).found == {"a": "/x/a", "b": "/x/b"}


def test_a_library_is_known_by_the_name_that_it_gives_itself() -> None:
    files = {
        "/p/m": elf("a-1", "b", run_path=("/x",)),
        "/x/a-1": elf(soname=("a",)),
        "/x/b": elf("a"),
    }
    assert find(files).missing == []


def test_the_loader_ends_at_a_name_that_only_a_later_file_leads_to() -> None:
    files = {
        "/p/m": elf("a", "b", run_path=("/x",)),
        "/x/a": elf("c"),
        "/x/b": elf("c", run_path=("/y",)),
        "/y/c": elf(),
    }
    assert find(files).missing == [("/x/a", "c")]


def test_libraries_that_need_each_other() -> None:
    files = {"/p/m": elf("a"), "/default/a": elf("b"), "/default/b": elf("a")}
    assert find(files).found == {"a": "/default/a", "b": "/default/b"}


def test_the_loader_itself_is_never_missing() -> None:
    assert find({"/p/m": elf("ld-linux-x86-64.so.2")}) == Libraries()
