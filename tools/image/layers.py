"""The writable layer over the packed root file system, and what the start writes into it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
        # The kernel makes a folder without permissions in the work folder.
        for parent, names, _ in os.walk(folders[2]):
            for inner in names:
                (Path(parent) / inner).chmod(0o700)
        return works


def prepare_copy(instance: Instance) -> Path:
    """A whole copy of the root file system where there is no overlay; kept until the next build."""
    if not instance.layer.is_dir():
        draft = instance.layer.with_name("__ROOT.partial")
        shutil.rmtree(draft, ignore_errors=True)
        draft.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(instance.rootfs, draft, symlinks=True)
        draft.rename(instance.layer)
    return instance.layer


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
    """Host folders of a checked configuration with their place in the image."""
    return [
        ((instance.folder / mount["source"]).resolve(), mount["target"])
        for mount in configuration["mount"]
        if mount["type"] == "hostfs"
    ]
