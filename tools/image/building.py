"""Builds an image in steps: Python, configuration, root file system, checks, packing."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from app.access.policy import read_policy
from tools.errors import ImageBuildError
from tools.image.instance import STATUS_FILE, Instance
from tools.image.modes import image_umask
from tools.image.origins import Origins
from tools.image.packing import build_instance, checked_configuration
from tools.image.processes import output_of
from tools.image.python_prefix import stage_python
from tools.image.request import BUNDLE_FOLDER, BuildRequest, ServedBundle, host_side
from tools.image.rootfs_checks import glibc_problems
from tools.image.signing import ensure_signing_key
from tools.image.staging import (
    host_folders_in_place,
    sizes_for,
    stage_rootfs,
    write_instance_files,
)
from tools.launcher import ROOT

STAND_IN = ROOT / "tools" / "occlum"
BUILD = ROOT / "build"
PYTHON_VARIABLE = "CLOISTER_PYTHON"
"""Names, for bom.yaml, the folder that holds python-occlum."""

TEMPLATES = "/opt/occlum/etc/template"
"""Where Occlum keeps the bom files that others include."""


def real_occlum() -> Path | None:
    """Occlum's own command if it is on PATH, not this project's stand-in."""
    found = shutil.which("occlum")
    if found is None or Path(found).resolve() == STAND_IN.resolve():
        return None
    return Path(found)


def build(request: BuildRequest) -> None:
    """Builds the image.

    Raises:
        ImageBuildError: lists every problem of the step that failed.
    """
    served = request.served()
    request.check_served(served)
    for reason in request.left_out():
        _say(f"note: {reason}")
    _check_access(request)
    stage = BUILD / "python"
    stage_python(stage / "python-occlum", BUILD / "wheels", _say)
    if ensure_signing_key(request.sign_key):
        _say(f"made a new signing key: {request.sign_key}")
    occlum = real_occlum()
    instance = _instance(request.output, occlum)
    # Relative to the instance: copy_bom joins before it fills in variables, and finds nothing at an
    # absolute path then.
    os.environ[PYTHON_VARIABLE] = os.path.relpath(stage.resolve(), instance.folder)
    _say("staging configuration and bundles")
    stage_rootfs(request, served, instance.folder / "stage")
    write_instance_files(request, instance, sizes_for(request, served))
    origins = Origins(stage / "python-occlum", BUILD / "wheels")
    with image_umask(), host_folders_in_place(request, served, instance):
        if occlum is None:
            _build_with_stand_in(request, instance, origins)
        else:
            _build_with_occlum(request, instance, occlum, origins)
    _say(origins.write(instance))
    for line in where_bundles_lie(request, served, instance):
        _say(line)
    _say(f"built {instance.folder}; run it there with: occlum run /bin/app")


def where_bundles_lie(
    request: BuildRequest, served: list[ServedBundle], instance: Instance
) -> list[str]:
    """Says of the served bundles what was chosen and what that costs."""
    lines = []
    if any(bundle.is_in_image for bundle in served):
        lines.append(
            "bundle: in the image, measured with it; Occlum reads it through its encrypted file "
            "system at every load of a partition: 40 ms a request instead of 6.4 where it was "
            "tried (the sample model, simulation mode). For models that stay in memory"
        )
    if not all(bundle.is_in_image for bundle in served):
        folder = request.bundle_folder or host_side(instance.folder, BUNDLE_FOLDER)
        lines.append(
            f"bundles: on the host, in {folder}; the app authenticates every object of them and "
            "checks the owner's signature and the oldest version that it may serve. The host can "
            "take them away, and put others of the owner's there that are new enough"
        )
    return lines


def _say(line: str) -> None:
    print(f"build.sh: {line}", flush=True)


def _check_access(request: BuildRequest) -> None:
    """Finds out now what would keep the app from starting, or from serving anything."""
    if request.access_policy is not None:
        read_policy(request.access_policy)
    elif not request.insecure_open_access:
        _say("note: no --access-policy, so only health will be served")


def _instance(folder: Path, occlum: Path | None) -> Instance:
    if not (folder / STATUS_FILE).is_file():
        output_of([occlum or STAND_IN, "new", folder], "occlum new")
    return Instance.at(folder)


def _build_with_stand_in(request: BuildRequest, instance: Instance, origins: Origins) -> None:
    _say(f"occlum build (stand-in, {request.mode}): root file system, checks, packing")
    mounts = frozenset(request.host_folders())
    with instance.claimed():
        notes = build_instance(
            instance,
            request.sign_key,
            request.mode,
            mounts,
            request.model_keys(),
            further=lambda image: origins.problems(instance, image),
        )
    for note in [*notes, *glibc_problems(instance.image)]:
        _say(f"note: {note}")


def _build_with_occlum(
    request: BuildRequest, instance: Instance, occlum: Path, origins: Origins
) -> None:
    _say("copy_bom")
    shutil.rmtree(instance.image, ignore_errors=True)
    bom = instance.folder / "bom.yaml"
    copy: list[str | Path] = ["copy_bom", "-f", bom, "--root", instance.image]
    output_of([*copy, "--include-dir", TEMPLATES], "copy_bom", cwd=instance.folder)
    _say("checking the root file system")
    mounts = frozenset(request.host_folders())
    checked_configuration(
        instance,
        mounts,
        request.model_keys(),
        further=lambda image: origins.problems(instance, image),
    )
    if problems := glibc_problems(instance.image):
        raise ImageBuildError(str(instance.image), problems)
    _say(f"occlum build ({occlum}, {request.mode})")
    key: list[str | Path] = ["--sign-key", request.sign_key.resolve()]
    argv = [occlum, "build", *key, "--sgx-mode", request.mode]
    output_of(argv, "occlum build", cwd=instance.folder)
    # Occlum reports some wrong configurations with status 0 and an empty file.
    enclave = instance.build / "Enclave.xml"
    if not enclave.is_file() or enclave.stat().st_size == 0:
        raise ImageBuildError("occlum build", [f"{enclave} is missing or empty; see its output"])
