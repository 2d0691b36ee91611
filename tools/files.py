"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_HERE: Final = -100
"""AT_FDCWD of fcntl.h: relative paths start in the working directory."""

_RENAME_EXCHANGE: Final = 2
"""Of renameat2(2)."""


_folders: Final[dict[Path, tuple[Path, int | None]]] = {}
_files: Final[dict[Path, tuple[int, Path]]] = {}
"""By target: what was begun ahead of time."""


def begin_folder(target: Path) -> Path:
    """Makes the folder that `new_folder` will work in, while this process may still make one."""
    target = target.absolute()
    _folders[target] = _unfinished_folder(target)
    return _folders[target][0]


def begin_file(target: Path) -> Path:
    """Makes the file that `write_file` will write to, while this process may still make one."""
    target = target.absolute()
    _files[target] = _unfinished_file(target)
    return _files[target][1]


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Gives an empty folder beside `target` that takes its place when the block succeeds.

    Every file is synced before the rename. What stood at `target` is kept
    until then and removed after it; on an error it stays as it was. A killed
    process leaves the folder that it was working on, hidden; the next call for
    the same target removes it.
    """
    target = target.absolute()
    work, lock = _folders.pop(target) if target in _folders else _unfinished_folder(target)
    try:
        work.chmod(0o755)
        yield work
        for path in [*work.rglob("*"), work]:
            _sync(path)
        _replace(work, target)
        _sync(target.parent)
    finally:
        shutil.rmtree(work, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def write_file(target: Path, content: bytes, mode: int = 0o644) -> None:
    """Writes a file beside its place, syncs it and renames it."""
    target = target.absolute()
    handle, work = _files.pop(target) if target in _files else _unfinished_file(target)
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(handle, mode)
            file.write(content)
            file.flush()
            os.fsync(handle)
        work.replace(target)
    finally:
        work.unlink(missing_ok=True)


def write_new_file(target: Path, content: bytes, mode: int) -> None:
    """Writes a file that must not exist yet; it never has wider permissions than `mode`.

    Raises:
        FileExistsError: when it exists.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(handle)


@contextmanager
def locked(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Holds a lock file alone during the block; the kernel frees what a killed process held.

    Args:
        path: made where it is missing, and left there.
        waiting: called once when somebody else holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def file_digest(path: Path) -> str:
    """Gives a file's SHA-256 in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unfinished_folder(target: Path) -> tuple[Path, int | None]:
    """Makes a folder beside a target, locked, and removes what killed processes left there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{target.name}.unfinished-"
    _remove_unfinished(target.parent, prefix)
    work = Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
    return work, _lock(work)


def _unfinished_file(target: Path) -> tuple[int, Path]:
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    return handle, Path(name)


def _lock(folder: Path) -> int | None:
    """Locks a folder until its file is closed or the process ends; None when another holds it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle


def _remove_unfinished(parent: Path, prefix: str) -> None:
    """Removes folders whose process has ended."""
    for path in parent.iterdir():
        if not path.name.startswith(prefix) or not path.is_dir():
            continue
        if (lock := _lock(path)) is not None:
            shutil.rmtree(path, ignore_errors=True)
            os.close(lock)


def _replace(work: Path, target: Path) -> None:
    if not target.exists():
        work.rename(target)
    elif not _exchange(work, target):
        _replace_in_steps(work, target)


def _exchange(work: Path, target: Path) -> bool:
    """Swaps two folders at once; says whether the file system can."""
    swap = getattr(ctypes.CDLL(None), "renameat2", None)
    if swap is None:
        return False
    paths = os.fsencode(work), os.fsencode(target)
    return bool(swap(_HERE, paths[0], _HERE, paths[1], _RENAME_EXCHANGE) == 0)


def _replace_in_steps(work: Path, target: Path) -> None:
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}.old.", dir=target.parent))
    target.rename(old / target.name)
    try:
        work.rename(target)
    except OSError:
        (old / target.name).rename(target)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
