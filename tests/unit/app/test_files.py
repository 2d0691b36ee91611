"""Files that stay open: as many as may, only good ones, and none for longer than their owner."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from app.files import BundleFiles, read_into

NAMES = ("a", "b", "c")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in NAMES:
        (tmp_path / name).write_bytes(name.encode() * 10)
    return tmp_path


def is_open(file: int) -> bool:
    try:
        os.fstat(file)
    except OSError:
        return False
    return True


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def content(file: int | None) -> bytes:
    assert file is not None
    buffer = np.zeros(10, np.uint8)
    assert read_into(file, buffer, 0, to_end=True)
    return buffer.tobytes()


def test_a_kept_file_is_read_on_when_another_takes_its_name(folder: Path) -> None:
    files = BundleFiles(folder)
    file = files.take("a", 10)
    assert content(file) == b"a" * 10
    assert file is not None
    files.give_back("a", file, keep=True)
    (folder / "b").replace(folder / "a")
    assert files.take("a", 10) == file
    assert content(file) == b"a" * 10
    os.close(file)


def test_what_was_no_good_is_opened_anew(folder: Path) -> None:
    files = BundleFiles(folder)
    file = files.take("a", 10)
    assert file is not None
    files.give_back("a", file, keep=False)
    (folder / "b").replace(folder / "a")
    again = files.take("a", 10)
    assert content(again) == b"b" * 10
    assert again is not None
    os.close(again)


def test_no_more_stay_open_than_may(folder: Path) -> None:
    files = BundleFiles(folder, most_open=2)
    taken = {name: files.take(name, 10) for name in NAMES}
    for name, file in taken.items():
        assert file is not None
        files.give_back(name, file, keep=True)
    assert [is_open(file) for file in taken.values() if file is not None] == [True, True, False]


def test_two_loads_of_one_file_have_a_descriptor_each(folder: Path) -> None:
    files = BundleFiles(folder)
    first, second = files.take("a", 10), files.take("a", 10)
    assert first is not None
    assert second is not None
    assert first != second
    files.give_back("a", first, keep=True)
    files.give_back("a", second, keep=True)
    assert (is_open(first), is_open(second)) == (True, False)


def test_files_are_closed_with_their_owner(folder: Path) -> None:
    files = BundleFiles(folder)
    file = files.take("a", 10)
    assert file is not None
    files.give_back("a", file, keep=True)
    del files
    assert not is_open(file)


@pytest.mark.parametrize("size", [0, 9, 11])
def test_file_of_another_size_is_not_given_and_not_left_open(folder: Path, size: int) -> None:
    before = open_files()
    assert BundleFiles(folder).take("a", size) is None
    assert open_files() == before


def test_missing_file_is_an_error(folder: Path) -> None:
    with pytest.raises(FileNotFoundError):
        BundleFiles(folder).take("d", 10)


@pytest.mark.parametrize(
    ("size", "offset", "to_end", "is_filled"),
    [
        (4, 6, True, True),
        (4, 6, False, True),
        (5, 6, True, False),
        (5, 6, False, False),
        (1, 10, False, False),
        (3, 6, True, False),
        (3, 6, False, True),
    ],
)
def test_reading_to_the_end_and_no_further(
    folder: Path, size: int, offset: int, to_end: bool, is_filled: bool
) -> None:
    file = BundleFiles(folder).take("a", 10)
    assert file is not None
    buffer = np.zeros(size, np.uint8)
    assert read_into(file, buffer, offset, to_end=to_end) == is_filled
    assert (buffer.tobytes() == b"a" * size) == (offset + size <= 10)
    os.close(file)
