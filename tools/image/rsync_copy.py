"""Copies as copy_bom does: a folder by `rsync -ar --copy-unsafe-links`, a file by `rsync -aL`.

Where rsync would write an error, there is a problem here; copy_bom ends at the
first one. Refused as well: devices, pipes and sockets; a folder whose links
lead back into it, which rsync follows until names are too long; and one that
holds the image or is part of it, which would be copied into itself.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from tools.image.rsync_rules import is_excluded, leaves_the_tree


def copy_file(source: Path, destination: Path) -> list[str]:
    """Copies a file, links followed: into the destination if that is a folder or leads to one.

    Returns:
        Why it couldn't be copied.
    """
    try:
        if _is_folder(destination):
            destination = destination / source.name
        _write(source, destination)
    except OSError as error:
        return [f"can't copy {source} to {destination}: {error.strerror}"]
    return []


def copy_tree(source: str, place: Path, excludes: Sequence[str], root: Path) -> list[str]:
    """Copies a folder into another one, or only its contents when its name ends in a slash.

    Modes are copied as well, with a trailing slash also the one of the folder itself.

    Args:
        source: path on the host.
        place: folder that it goes into; it exists.
        excludes: patterns of `is_excluded`.
        root: of the image that is being made.

    Returns:
        Everything that couldn't be copied.
    """
    top = Path(source)
    copy = _Copy(place, excludes, root.resolve())
    try:
        if source.endswith("/"):
            return copy.folder(top, PurePosixPath(), ())
        return copy.entry(top, PurePosixPath(top.name), ())
    except RecursionError:
        return [f"{source} has too many folders inside one another"]


def is_entangled(folder: Path, root: Path) -> bool:
    """Whether a folder holds the image or is part of it.

    Args:
        folder: a source.
        root: of the image, links resolved.
    """
    resolved = folder.resolve()
    return root.is_relative_to(resolved) or resolved.is_relative_to(root)


class _Copy:
    """One transfer: where it goes, and what is left out."""

    def __init__(self, place: Path, excludes: Sequence[str], root: Path) -> None:
        self._place = place
        self._excludes = excludes
        self._root = root

    def folder(
        self, source: Path, path: PurePosixPath, above: tuple[tuple[int, int], ...]
    ) -> list[str]:
        """Copies a folder to a path below the place; `above` are the folders around it."""
        target = self._place / path
        try:
            status = source.stat()
            if (status.st_dev, status.st_ino) in above:
                return [f"{source} leads back to a folder around it"]
            # Only the top and what a link leads to can be anywhere.
            if (not above or source.is_symlink()) and is_entangled(source, self._root):
                return [f"{source} holds the image that is being made, or is part of it"]
            if path.parts and (target.is_symlink() or not target.is_dir()):
                target.unlink(missing_ok=True)
                target.mkdir()
            entries = sorted(source.iterdir())
        except OSError as error:
            return [f"can't copy {source} to {target}: {error.strerror}"]
        around = (*above, (status.st_dev, status.st_ino))
        problems: list[str] = []
        for entry in entries:
            problems += self.entry(entry, path / entry.name, around)
        # Last, because a folder may be one that nobody can write to.
        target.chmod(stat.S_IMODE(status.st_mode))
        return problems

    def entry(
        self, source: Path, path: PurePosixPath, above: tuple[tuple[int, int], ...]
    ) -> list[str]:
        """Copies whatever it is."""
        target = self._place / path
        try:
            kept = source.is_symlink() and not leaves_the_tree(path, str(source.readlink()))
            status = source.lstat() if kept else source.stat()
            if is_excluded(path, stat.S_ISDIR(status.st_mode), self._excludes):
                return []
            if stat.S_ISDIR(status.st_mode):
                return self.folder(source, path, above)
            if not (kept or stat.S_ISREG(status.st_mode)):
                return [f"{source} is neither a file nor a folder nor a link to one"]
            if kept:
                _make_way(target)
                target.symlink_to(source.readlink())
            else:
                _write(source, target)
        except FileNotFoundError:
            return [f"{source} is neither a file nor a folder nor a link to one"]
        except OSError as error:
            return [f"can't copy {source} to {target}: {error.strerror}"]
        return []


def _is_folder(place: Path) -> bool:
    """Whether a place is a folder or a link to one.

    Raises:
        OSError: it can't be told, as with a link that leads to itself.
    """
    try:
        return stat.S_ISDIR(place.stat().st_mode)
    except FileNotFoundError:
        return False


def _write(source: Path, target: Path) -> None:
    """Copies a file with its mode and time.

    One of the same size and second is taken for the same file: rsync looks no closer.
    """
    status = source.stat()
    old = target.lstat() if target.exists() and not target.is_symlink() else None
    same = (
        old is not None
        and stat.S_ISREG(old.st_mode)
        and old.st_size == status.st_size
        and int(old.st_mtime) == int(status.st_mtime)
    )
    if same:
        target.chmod(stat.S_IMODE(status.st_mode))
        return
    _make_way(target)
    shutil.copy(source, target)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def _make_way(target: Path) -> None:
    """Removes what is at a place; a folder only if it is empty, as rsync does.

    Raises:
        OSError: it can't be removed.
    """
    if target.is_dir() and not target.is_symlink():
        target.rmdir()
    else:
        target.unlink(missing_ok=True)
