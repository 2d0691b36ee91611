"""Files of folders that others fill: only regular ones are read, and nobody waits for any."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from app.files import BundleFiles, WrongFileError, open_file, read_at, read_file

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


def content(file: int) -> bytes:
    found = read_at(file, 10, 0, to_end=True)
    assert found is not None
    return found


def test_a_kept_file_is_read_on_when_another_takes_its_name(folder: Path) -> None:
    files = BundleFiles(folder)
    file = files.take("a", 10)
    assert content(file) == b"a" * 10
    files.give_back("a", file, keep=True)
    (folder / "b").replace(folder / "a")
    assert files.take("a", 10) == file
    assert content(file) == b"a" * 10
    os.close(file)


def test_what_was_no_good_is_opened_anew(folder: Path) -> None:
    files = BundleFiles(folder)
    file = files.take("a", 10)
    files.give_back("a", file, keep=False)
    (folder / "b").replace(folder / "a")
    again = files.take("a", 10)
    assert content(again) == b"b" * 10
    os.close(again)


def test_no_more_stay_open_than_may(folder: Path) -> None:
    files = BundleFiles(folder, most_open=2)
    taken = {name: files.take(name, 10) for name in NAMES}
    for name, file in taken.items():
        files.give_back(name, file, keep=True)
    assert [is_open(file) for file in taken.values()] == [True, True, False]


def test_two_loads_of_one_file_have_a_descriptor_each(folder: Path) -> None:
    files = BundleFiles(folder)
    first, second = files.take("a", 10), files.take("a", 10)
    assert first != second
    files.give_back("a", first, keep=True)
    files.give_back("a", second, keep=True)
    assert (is_open(first), is_open(second)) == (True, False)


def test_files_are_closed_with_their_owner(folder: Path) -> None:
    files = BundleFiles(folder)
    file = files.take("a", 10)
    files.give_back("a", file, keep=True)
    del files
    assert not is_open(file)


@pytest.mark.parametrize("size", [0, 9, 11])
def test_file_of_another_size_is_not_given_and_not_left_open(folder: Path, size: int) -> None:
    before = open_files()
    with pytest.raises(WrongFileError, match=f"10 bytes, expected {size}"):
        BundleFiles(folder).take("a", size)
    assert open_files() == before


def pipe(path: Path) -> None:
    os.mkfifo(path)


def pipe_with_a_writer(path: Path) -> None:
    os.mkfifo(path)
    os.open(path, os.O_RDWR | os.O_NONBLOCK)


def link(path: Path) -> None:
    path.symlink_to(path.parent / "a")


def link_to_itself(path: Path) -> None:
    path.symlink_to(path)


def link_to_a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def listener(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(path))  # the kernel takes 107 bytes of a name


def nothing(_: Path) -> None:
    pass


PLANTED = (
    *(pipe, pipe_with_a_writer, link, link_to_itself, link_to_a_device, listener),
    *(Path.mkdir, nothing),
)


@pytest.mark.parametrize("plant", PLANTED)
def test_what_is_no_regular_file_is_refused_at_once(
    folder: Path, plant: Callable[[Path], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever fills the folder plants it; an open that waited would never come back."""
    monkeypatch.chdir(folder)
    plant(folder / "d")
    before = open_files()
    for attempt in (
        lambda: open_file(folder / "d"),
        lambda: open_file(folder / "d", 10),
        lambda: read_file(folder / "d", 100),
        lambda: BundleFiles(folder).take("d", 10),
    ):
        with pytest.raises(WrongFileError):
            attempt()
    assert open_files() == before


def test_file_in_the_place_of_a_folder(folder: Path) -> None:
    with pytest.raises(WrongFileError, match="Not a directory"):
        open_file(folder / "a" / "b")


@pytest.mark.parametrize(
    "code", [errno.EIO, errno.EACCES, errno.EMFILE, errno.ENOMEM, errno.ESTALE]
)
def test_what_could_not_be_found_out_stays_an_error(
    folder: Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("app.files.os.open", fail)
    with pytest.raises(OSError, match=os.strerror(code)):
        open_file(folder / "a")


def test_small_files_are_read_whole_and_larger_ones_not_at_all(folder: Path) -> None:
    assert read_file(folder / "a", 10) == b"a" * 10
    with pytest.raises(WrongFileError, match="10 bytes, at most 9 are allowed"):
        read_file(folder / "a", 9)
    (folder / "e").write_bytes(b"")
    assert read_file(folder / "e", 10) == b""


@pytest.mark.parametrize(
    ("size", "offset", "to_end", "is_whole"),
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
    folder: Path, size: int, offset: int, to_end: bool, is_whole: bool
) -> None:
    file = open_file(folder / "a", 10)
    found = read_at(file, size, offset, to_end=to_end)
    os.close(file)
    assert found == (b"a" * size if is_whole else None)


@pytest.mark.parametrize("most_bytes", [1, 3])
@pytest.mark.parametrize(("size", "is_whole"), [(4, True), (5, False)])
def test_a_system_that_gives_less_at_a_time_is_asked_again(
    folder: Path, most_bytes: int, size: int, is_whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = os.pread
    monkeypatch.setattr(
        "app.files.os.pread",
        lambda file, count, place: original(file, min(count, most_bytes), place),
    )
    file = open_file(folder / "a", 10)
    found = read_at(file, size, 6, to_end=True)
    os.close(file)
    assert found == (b"a" * size if is_whole else None)


def test_reading_needs_no_call_that_occlum_lacks(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("preadv", "readv"):
        monkeypatch.delattr(os, name)
    assert content(BundleFiles(folder).take("a", 10)) == b"a" * 10
