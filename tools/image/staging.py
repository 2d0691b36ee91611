"""Lays out the parts of an instance that differ from build to build.

They are what bom.yaml copies, Occlum.json, and the folders that the host keeps for the app. Those
are mounted by a path relative to the instance, so that neither the measured configuration nor a
move of the instance depends on where it lies.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tools.files import write_file
from tools.image.instance import Instance
from tools.image.modes import normalise_modes
from tools.image.policy import SIZING_KEY, read_configuration
from tools.image.request import (
    ACCESS_POLICY,
    BUNDLE_FOLDER,
    CONFIGURATION,
    HOST,
    TEMPLATE,
    BuildRequest,
    ServedBundle,
    host_side,
)
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
        if bundle.is_in_image:
            shutil.copytree(bundle.source, rootfs / bundle.place.lstrip("/"))
    shutil.copyfile(SOURCES / "app", folder / "app")
    (folder / "app").chmod(0o755)
    normalise_modes(folder)


@contextmanager
def host_folders_in_place(
    request: BuildRequest, served: list[ServedBundle], instance: Instance
) -> Iterator[None]:
    """Lays out the host's folders of an instance; a build that fails gets the former ones back.

    Args:
        request: what was asked for.
        served: its bundles.
        instance: whose `host/` is replaced.
    """
    host = instance.folder / HOST
    draft, former = host.with_name("host.partial"), host.with_name("host.former")
    for left_behind in (draft, former):
        shutil.rmtree(left_behind, ignore_errors=True)
    draft.mkdir()
    for place, folder in request.host_folders().items():
        # A folder of the instance itself is filled below; others stay where they are.
        if folder != host_side(request.output, place):
            (draft / Path(place).name).symlink_to(folder.resolve())
    for bundle in served:
        if bundle.source == request.bundle and not bundle.is_in_image:
            _copy_writable(
                bundle.source, draft / Path(BUNDLE_FOLDER).name / Path(bundle.place).name
            )
    if host.is_dir():
        host.rename(former)
    draft.rename(host)
    try:
        yield
    except BaseException:
        shutil.rmtree(host)
        if former.is_dir():
            former.rename(host)
        raise
    shutil.rmtree(former, ignore_errors=True)


def _copy_writable(source: Path, target: Path) -> None:
    """Copies a folder; Occlum opens files of the host for writing even when it only reads."""
    shutil.copytree(source, target)
    for path in (target, *target.rglob("*")):
        path.chmod(path.stat().st_mode | 0o200)


def sizes_for(request: BuildRequest, served: list[ServedBundle]) -> Sizes:
    """The sizes for the largest budget among the bundles."""
    largest_file = max(
        (path.stat().st_size for b in served for path in b.source.rglob("*") if path.is_file()),
        default=0,
    )
    # In a folder of the host further versions may arrive, each with its weights beside the last's.
    may_grow = not all(bundle.is_in_image for bundle in served)
    return derive_sizes(
        request.budget_of(served),
        request.workers,
        request.inference_threads,
        largest_file,
        models=2 * len(served) if may_grow else len(served),
    )


def write_instance_files(request: BuildRequest, instance: Instance, sizes: Sizes) -> None:
    """Writes Occlum.json from its template, and bom.yaml."""
    configuration = read_configuration(TEMPLATE)
    configuration["metadata"] = request.identity.metadata(configuration["metadata"])
    configuration["resource_limits"] = sizes.resource_limits()
    configuration["process"] = sizes.process()
    configuration["mount"] += [_host_mount(place) for place in request.host_folders()]
    configuration[SIZING_KEY] = sizes.derivation()
    text = json.dumps(configuration, indent=2, ensure_ascii=False) + "\n"
    write_file(instance.configuration, text.encode())
    write_file(instance.folder / "bom.yaml", (SOURCES / "bom.yaml").read_bytes())


def _host_mount(place: str) -> dict[str, Any]:
    return {"target": place, "type": "hostfs", "source": f"./{HOST}/{Path(place).name}"}
