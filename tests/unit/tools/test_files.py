from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tests import folders
from tools.files import file_digest, new_folder, write_file, write_new_file


def fill(target: Path, *, fail: bool = False) -> None:
    with new_folder(target) as work:
        (work / "inner").mkdir()
        (work / "inner" / "a").write_text("new")
        if fail:
            raise ZeroDivisionError


def test_folder_appears_whole_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    fill(tmp_path / "deep" / "target")
    assert folders.files(tmp_path) == {"deep/target/inner/a": b"new"}


def test_folder_replaces_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "old").write_text("old")
    fill(target)
    assert folders.files(tmp_path) == {"target/inner/a": b"new"}
    assert list(tmp_path.iterdir()) == [target]


def test_folder_is_replaced_where_folders_cannot_be_swapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.files._exchange", lambda *_: False)
    fill(tmp_path / "target")
    fill(tmp_path / "target")
    assert folders.files(tmp_path) == {"target/inner/a": b"new"}


def test_old_folder_is_there_until_the_new_one_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "target"
    fill(target)

    def refuse(*_: object) -> Path:
        raise AssertionError("for a moment there is no folder")

    monkeypatch.setattr(Path, "rename", refuse)
    fill(target)
    assert folders.files(tmp_path) == {"target/inner/a": b"new"}


def test_what_a_killed_process_left_goes_and_what_a_living_one_writes_stays(tmp_path: Path) -> None:
    left = tmp_path / ".target.unfinished-1"
    left.mkdir()
    (left / "half").touch()
    mine = tmp_path / ".target.backup"
    mine.mkdir()
    with new_folder(tmp_path / "target") as work:
        fill(tmp_path / "target")
        assert work.is_dir(), "another process is writing there"
    assert not left.exists()
    assert mine.exists()


@pytest.mark.parametrize("there", [True, False])
def test_error_leaves_everything_as_it_was(tmp_path: Path, there: bool) -> None:
    if there:
        (tmp_path / "target").mkdir()
        (tmp_path / "target" / "old").write_text("old")
    before = folders.files(tmp_path)
    with pytest.raises(ZeroDivisionError):
        fill(tmp_path / "target", fail=True)
    assert folders.files(tmp_path) == before
    assert (tmp_path / "target").exists() == there


def test_failing_rename_brings_the_old_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "old").write_text("old")
    original = Path.rename

    def rename(self: Path, other: Path) -> Path:
        if self.name.startswith(".target.") and other == target:
            raise OSError(5, "disk")
        return original(self, other)

    monkeypatch.setattr(Path, "rename", rename)
    monkeypatch.setattr("tools.files._exchange", lambda *_: False)
    with pytest.raises(OSError, match="disk"):
        fill(target)
    assert folders.files(tmp_path) == {"target/old": b"old"}


def test_file_is_replaced_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "file"
    write_file(target, b"one")
    write_file(target, b"two", 0o600)
    assert folders.files(tmp_path) == {"file": b"two"}
    assert stat.S_IMODE(target.stat().st_mode) == 0o600

    def fail(*_: object) -> None:
        raise OSError(28, "disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_file(target, b"three")
    assert folders.files(tmp_path) == {"file": b"two"}


def test_new_file_is_never_overwritten_nor_readable_by_others(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "key"
    write_new_file(target, b"one", 0o600)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        write_new_file(target, b"two", 0o600)
    assert target.read_bytes() == b"one"


def test_digest(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert file_digest(tmp_path / "empty").startswith("e3b0c44298fc1c14")
