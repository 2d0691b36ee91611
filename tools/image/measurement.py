"""A simulated measurement of an image: the same inputs give the same digest, any change another.

It covers what Occlum's covers, root file system and configuration, but no
enclave code, and it never equals the MRENCLAVE of a real build.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def rootfs_digest(root: Path) -> bytes:
    """SHA-256 over names, modes, contents and links, sorted by name; owners and times don't count.

    Args:
        root: folder that holds the root file system.
    """
    digest = hashlib.sha256()
    for folder, folders, names in os.walk(root):
        folders.sort()
        for name in sorted([*folders, *names]):
            path = Path(folder) / name
            mode = path.lstat().st_mode
            digest.update(f"{path.relative_to(root)}\0{mode:o}\0".encode(errors="surrogateescape"))
            if path.is_symlink():
                digest.update(os.fsencode(path.readlink()) + b"\0")
            elif path.is_file():
                digest.update(_file_digest(path))
    return digest.digest()


def _file_digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def simulated_mr_enclave(root_digest: bytes, configuration: Mapping[str, Any], mode: str) -> str:
    """The stand-in's MRENCLAVE as hex.

    Args:
        root_digest: from `rootfs_digest`.
        configuration: as built in.
        mode: "HW" or "SIM".
    """
    canonical = json.dumps(configuration, sort_keys=True, separators=(",", ":")).encode()
    digest = hashlib.sha256(b"cloister simulated measurement 1\0" + mode.encode() + b"\0")
    digest.update(root_digest + hashlib.sha256(canonical).digest())
    return digest.hexdigest()
