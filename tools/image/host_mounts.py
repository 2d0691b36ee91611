"""Compares the host folders that an image shows with those that its app was told of.

The app calls a setting insecure when its file lies in a folder of the host. Which folders these
are it can't find out inside, so the measured configuration says it and the build checks that.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tools.image.request import CONFIGURATION


def hostfs_targets(configuration: Mapping[str, Any]) -> list[str]:
    """Where a checked Occlum.json shows folders of the host."""
    mounts = configuration["mount"]
    return sorted(mount["target"] for mount in mounts if mount["type"] == "hostfs")


def host_mount_problems(configuration: Mapping[str, Any], rootfs: Path) -> list[str]:
    """Says where the app's configuration and Occlum.json disagree about host folders.

    Args:
        configuration: Occlum.json, checked.
        rootfs: the image's root file system; one without the app has nothing to disagree.
    """
    path = rootfs / CONFIGURATION.lstrip("/")
    if not path.is_file():
        return []
    try:
        told = json.loads(path.read_bytes())["host_mounts"]
    except (ValueError, KeyError, TypeError):
        return [f"{CONFIGURATION}: must name the host folders of Occlum.json as 'host_mounts'"]
    shown = hostfs_targets(configuration)
    if told == shown:
        return []
    return [f"{CONFIGURATION}: 'host_mounts' is {told}, but Occlum.json mounts {shown} as hostfs"]
