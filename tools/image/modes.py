"""Permissions inside an image: measured, so that they mustn't follow who builds it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

IMAGE_UMASK = 0o022


@contextmanager
def image_umask() -> Iterator[None]:
    """Lets new files and folders have the same permissions whoever builds, until the block ends."""
    former = os.umask(IMAGE_UMASK)
    try:
        yield
    finally:
        os.umask(former)


def normalise_modes(folder: Path) -> None:
    """Gives folders and executables 0755 and other files 0644, the folder itself included."""
    for path in (folder, *folder.rglob("*")):
        if path.is_symlink():
            continue
        is_open = path.is_dir() or path.stat().st_mode & 0o100
        path.chmod(0o755 if is_open else 0o644)
