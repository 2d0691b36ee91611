"""Lays out what bom.yaml copies: the parts of an image that differ from build to build."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from tools.files import write_file
from tools.image.instance import Instance
from tools.image.policy import SIZING_KEY, read_configuration
from tools.image.request import ACCESS_POLICY, CONFIGURATION, BuildRequest, ServedBundle
from tools.image.sizing import Sizes, derive_sizes
from tools.launcher import ROOT

SOURCES = ROOT / "occlum_image"


def stage_rootfs(request: BuildRequest, served: list[ServedBundle], folder: Path) -> None:
    """Makes the folder whose contents go into the image as they are.

    Args:
        request: what was asked for.
        served: its bundles.
        folder: the instance's stage; replaced.
    """
    shutil.rmtree(folder, ignore_errors=True)
    rootfs = folder / "rootfs"
    place = rootfs / CONFIGURATION.lstrip("/")
    place.parent.mkdir(parents=True)
    text = json.dumps(request.configuration(served), indent=2) + "\n"
    place.write_text(text, encoding="utf-8")
    if request.access_policy is not None:
        shutil.copyfile(request.access_policy, rootfs / ACCESS_POLICY.lstrip("/"))
    for mount in request.host_folders():
        (rootfs / mount.lstrip("/")).mkdir(parents=True)
    for bundle in served:
        if bundle.source == request.bundle:
            shutil.copytree(bundle.source, rootfs / bundle.place.lstrip("/"))
    shutil.copyfile(SOURCES / "app", folder / "app")
    (folder / "app").chmod(0o755)


def sizes_for(request: BuildRequest, served: list[ServedBundle]) -> Sizes:
    """The sizes for the largest budget among the bundles."""
    largest_file = max(
        (path.stat().st_size for b in served for path in b.source.rglob("*") if path.is_file()),
        default=0,
    )
    # In a bundle folder further versions may arrive, each with its weights loaded beside the last.
    may_grow = request.bundle_folder is not None
    return derive_sizes(
        request.budget_of(served),
        request.workers,
        request.inference_threads,
        largest_file,
        models=2 * len(served) if may_grow else len(served),
    )


def write_instance_files(request: BuildRequest, instance: Instance, sizes: Sizes) -> None:
    """Writes Occlum.json from its template, and bom.yaml."""
    configuration = read_configuration(SOURCES / "Occlum.json")
    configuration["resource_limits"] = sizes.resource_limits()
    configuration["process"] = sizes.process()
    configuration["mount"] += [
        _host_mount(place, source) for place, source in request.host_folders().items()
    ]
    configuration[SIZING_KEY] = sizes.derivation()
    text = json.dumps(configuration, indent=2, ensure_ascii=False) + "\n"
    write_file(instance.configuration, text.encode())
    write_file(instance.folder / "bom.yaml", (SOURCES / "bom.yaml").read_bytes())


def _host_mount(place: str, source: Path) -> dict[str, Any]:
    return {"target": place, "type": "hostfs", "source": str(source.resolve())}
