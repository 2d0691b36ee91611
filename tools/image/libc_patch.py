"""Takes clone3 out of the stand-in's copy of the host's libc.

Occlum answers EINVAL to clone3, and its own glibc never asks. The host's does
when it starts a thread, and turns to clone only after ENOSYS. So that threads
start while a program's own clone3 still gets EINVAL, the one place where the
copy in the image makes the call answers ENOSYS without making it.
"""

from __future__ import annotations

from pathlib import Path

from tools.image.autodep import GLIBC_FOLDER

CALL = bytes.fromhex("b8b30100000f05")
"""mov eax, 435 (clone3); syscall."""

ANSWER = bytes.fromhex("48c7c0daffffff")
"""mov rax, -38 (ENOSYS): as many bytes."""


def patch_libc(root: Path) -> str | None:
    """Patches the image's libc.so.6 if it is the host's.

    Args:
        root: folder that holds the root file system.

    Returns:
        None when done or nothing was to do, else what a person should know.
    """
    path = root / GLIBC_FOLDER.lstrip("/") / "libc.so.6"
    if not path.is_file():
        return None
    content = path.read_bytes()
    if content.count(CALL) == 0:
        return None
    if content.count(CALL) > 1:
        return f"{path} calls clone3 in several places; threads may fail to start"
    mode = path.stat().st_mode & 0o777
    draft = path.with_name("libc.so.6.partial")
    draft.write_bytes(content.replace(CALL, ANSWER))
    draft.chmod(mode)
    draft.replace(path)
    return None
