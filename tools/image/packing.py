"""The stand-in's `occlum build`: bom to image, checks, packed copy, simulated measurement."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.errors import ImageBuildError
from tools.files import write_file
from tools.image.bom import read_boms
from tools.image.host_mounts import host_mount_problems
from tools.image.instance import Instance
from tools.image.libc_patch import patch_libc
from tools.image.materialise import materialise
from tools.image.measurement import rootfs_digest, simulated_mr_enclave
from tools.image.policy import (
    configuration_problems,
    internal_configuration,
    kernel_heap_bytes,
    read_configuration,
)
from tools.image.rootfs_checks import rootfs_problems
from tools.image.signing import mr_signer

INCLUDE_FOLDERS = (Path("/opt/occlum/etc/template"), Path(__file__).with_name("template"))
"""Where boms that others include are looked for: Occlum's own folder, and the same beside this."""


def make_image(instance: Instance) -> None:
    """Makes image/ from bom.yaml, written beside and renamed; without a bom image/ stays.

    Raises:
        ImageBuildError: the bom or something that it names can't be used.
    """
    bom = instance.folder / "bom.yaml"
    if not bom.is_file():
        return
    draft = instance.folder / "image.partial"
    shutil.rmtree(draft, ignore_errors=True)
    materialise(read_boms(bom, INCLUDE_FOLDERS), draft, os.environ)
    shutil.rmtree(instance.image, ignore_errors=True)
    draft.rename(instance.image)


def checked_configuration(
    instance: Instance,
    host_mounts: frozenset[str] | None = None,
    known_keys: tuple[bytes, ...] = (),
    *,
    further: Callable[[Path], Sequence[str]] = lambda _image: (),
) -> dict[str, Any]:
    """Checks Occlum.json and image/ together.

    Args:
        instance: with image/ made.
        host_mounts: targets of host folders that were asked for; None allows any sensible one.
        known_keys: secret keys that must not be in the image.
        further: gives more problems of the root file system.

    Returns:
        The configuration as it is built in.

    Raises:
        ImageBuildError: lists every problem of both.
    """
    if not instance.image.is_dir():
        raise ImageBuildError(str(instance.image), ["doesn't exist; run copy_bom or add bom.yaml"])
    configuration = read_configuration(instance.configuration)
    problems = configuration_problems(
        configuration, instance.image, instance.folder, host_mounts=host_mounts
    )
    try:
        entry_points, heap = list(configuration["entry_points"]), kernel_heap_bytes(configuration)
    except (KeyError, TypeError, AttributeError, ValueError):
        # Listed above already; the files are still worth checking.
        entry_points, heap = [], 2**63
    problems += rootfs_problems(instance.image, entry_points, heap, known_keys)
    problems += further(instance.image)
    # A configuration that has other problems may lack what is compared.
    problems = problems or host_mount_problems(configuration, instance.image)
    if problems:
        raise ImageBuildError(str(instance.folder), problems)
    return internal_configuration(configuration)


def build_instance(
    instance: Instance,
    sign_key: Path,
    mode: str,
    host_mounts: frozenset[str] | None = None,
    known_keys: tuple[bytes, ...] = (),
    *,
    further: Callable[[Path], Sequence[str]] = lambda _image: (),
) -> list[str]:
    """Packs an instance; run/ is wiped, as Occlum does.

    Args:
        instance: to build.
        sign_key: PEM file.
        mode: "HW" or "SIM"; only noted and measured.
        host_mounts: as in `checked_configuration`.
        known_keys: as in `checked_configuration`.
        further: as in `checked_configuration`.

    Returns:
        What a person should know about the result.

    Raises:
        ImageBuildError: lists every problem; the previous build stays as it was.
    """
    signer = mr_signer(sign_key)
    make_image(instance)
    configuration = checked_configuration(instance, host_mounts, known_keys, further=further)
    draft = instance.folder / "build.partial"
    shutil.rmtree(draft, ignore_errors=True)
    rootfs = draft / "mount" / "__ROOT"
    rootfs.parent.mkdir(parents=True)
    shutil.copytree(instance.image, rootfs, symlinks=True)
    note = patch_libc(rootfs)
    digest = rootfs_digest(rootfs)
    _write_facts(draft, configuration, digest, mode, signer)
    shutil.rmtree(instance.folder / "run", ignore_errors=True)
    shutil.rmtree(instance.build, ignore_errors=True)
    draft.rename(instance.build)
    write_file(instance.folder / ".sgx_mode", f"{mode}\n".encode())
    return [note] if note is not None else []


def _write_facts(
    folder: Path, configuration: Mapping[str, Any], digest: bytes, mode: str, signer: str
) -> None:
    (folder / ".Occlum_sys.json").write_text(json.dumps(configuration, indent=2) + "\n")
    (folder / "mount" / ".ROOT_MAC").write_text(digest.hex())
    (folder / ".mrenclave").write_text(simulated_mr_enclave(digest, configuration, mode))
    (folder / ".mrsigner").write_text(signer)


def require_unaltered(instance: Instance) -> None:
    """Compares the packed root file system with its digest, as Occlum does while it reads.

    Raises:
        ImageBuildError: something under build/mount/__ROOT was changed.
    """
    noted = (instance.build / "mount" / ".ROOT_MAC").read_text()
    if rootfs_digest(instance.rootfs).hex() != noted:
        raise ImageBuildError(
            str(instance.rootfs), ["was altered after it was built; run 'occlum build' again"]
        )
