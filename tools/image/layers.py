"""The writable layer over the packed root file system, and what the start writes into it.

The layer is temporary, as `Occlum.json` says: every start finds the image as it was built.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tools.errors import ImageBuildError
from tools.image.instance import Instance
from tools.image.processes import succeeds

HOST_FILES = ("/etc/hostname", "/etc/hosts", "/etc/resolv.conf")
"""Occlum takes these from the host at every start and overwrites the image's."""

OVERLAY_SCRIPT = 'mount -t overlay overlay -o "$1" "$2"'
NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount")


def overlay_options(lower: Path, upper: Path, work: Path) -> str:
    """Options of mount for an overlay that an ordinary user may make in a namespace."""
    return f"lowerdir={lower},upperdir={upper},workdir={work},userxattr"


def overlay_works(instance: Instance) -> bool:
    """Tries an overlay beside the instance's own: the kernel or the file system may not do it."""
    if any(sign in str(instance.folder) for sign in ",:\\"):
        return False
    place = instance.folder / "run"
    place.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place, prefix="probe-") as name:
        folders = [Path(name) / part for part in ("lower", "upper", "work", "merged")]
        for folder in folders:
            folder.mkdir()
        options = overlay_options(*folders[:3])
        works = succeeds([*NAMESPACE, "sh", "-c", OVERLAY_SCRIPT, "sh", options, folders[3]])
        _remove(folders[2])
        return works


def fresh_layer(instance: Instance) -> Path:
    """Empties the writable layer, so that nothing which an earlier run wrote is there."""
    _remove(instance.layer)
    instance.layer.mkdir(parents=True)
    return instance.layer


def fresh_copy(instance: Instance) -> Path:
    """Makes a whole copy of the root file system, where there is no overlay."""
    _remove(instance.layer)
    shutil.copytree(instance.rootfs, instance.layer, symlinks=True)
    return instance.layer


def _remove(folder: Path) -> None:
    if not folder.is_dir():
        return
    # A program of the image may have left folders that can't be entered, and the kernel leaves one
    # in an overlay's work folder.
    folder.chmod(0o700)
    for parent, names, _ in os.walk(folder):
        for path in (Path(parent) / name for name in names):
            if not path.is_symlink():
                path.chmod(0o700)
    shutil.rmtree(folder)


def write_host_files(instance: Instance, layer: Path) -> None:
    """Copies the host's name files into the layer, if the image has /etc."""
    if not (instance.rootfs / "etc").is_dir():
        return
    (layer / "etc").mkdir(parents=True, exist_ok=True)
    for name in HOST_FILES:
        if Path(name).is_file():
            target = layer / name.lstrip("/")
            target.unlink(missing_ok=True)
            shutil.copyfile(name, target)


def host_mounts(configuration: Mapping[str, Any], instance: Instance) -> list[tuple[Path, str]]:
    """Host folders of a checked configuration with their place in the image.

    Raises:
        ImageBuildError: one of them isn't there any more.
    """
    folders = [
        ((instance.folder / mount["source"]).resolve(), mount["target"])
        for mount in configuration["mount"]
        if mount["type"] == "hostfs"
    ]
    missing = [
        f"the host folder {folder}, seen at {place}, doesn't exist; put it back or build again"
        for folder, place in folders
        if not folder.is_dir()
    ]
    if missing:
        raise ImageBuildError(str(instance.folder), missing)
    return folders


def memory_mounts(configuration: Mapping[str, Any]) -> list[str]:
    """Places of a checked configuration that lie in memory and end with the run."""
    return [mount["target"] for mount in configuration["mount"] if mount["type"] == "ramfs"]
