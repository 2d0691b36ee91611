"""Checks the mounts of Occlum.json: the root and its two layers, places in memory, host folders."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tools.image.occlum_sizes import PAGE_BYTES, parse_size
from tools.image.rootfs_paths import is_plain_path, resolve_inside

MIN_CACHE_BYTES = 192 * 1024
"""Smallest `cache_size` that Occlum accepts."""

_MOUNT_KEYS = {"target", "type", "source", "options"}
_MOUNT_TYPES = ("unionfs", "hostfs", "ramfs", "sefs", "ext2")
_OPTION_KEYS = {"temporary", "cache_size"}
_ROOT_OPTION_KEYS = {"layers", "cache_size"}
_LAYERS = (
    ("./build/mount/__ROOT", {"MAC"}),
    ("./run/mount/__ROOT", {"temporary"}),
)
"""The image below and the writable layer above it: where they lie, and what options they have."""


def mount_problems(
    mounts: Any,
    rootfs: Path,
    instance: Path,
    host_mounts: Iterable[str] | None,
    heap_bytes: int,
) -> list[str]:
    """Lists every reason not to build with these mounts.

    Args:
        mounts: the list in Occlum.json.
        rootfs: the image's root file system, for their targets.
        instance: the instance folder, where relative host folders start.
        host_mounts: targets of host folders that were asked for; None allows any.
        heap_bytes: the LibOS heap, which holds the caches.
    """
    if not isinstance(mounts, list):
        return [f"mount must be a list, not {type(mounts).__name__}"]
    problems = _root_mount_problems(mounts)
    for index, mount in enumerate(mounts):
        where = f"mount[{index}]"
        problems += _mount_problems(mount, where, rootfs, heap_bytes)
        if isinstance(mount, dict) and mount.get("type") == "hostfs":
            problems += _host_mount_problems(mount, where, instance, host_mounts)
    return problems + _covering_problems(mounts, rootfs)


def _root_mount_problems(mounts: list[Any]) -> list[str]:
    targets = [mount.get("target") for mount in mounts if isinstance(mount, dict)]
    named = [target for target in targets if isinstance(target, str)]
    problems = [f"mount target {t} occurs twice" for t in set(named) if named.count(t) > 1]
    root = next((m for m in mounts if isinstance(m, dict) and m.get("target") == "/"), None)
    if root is None:
        return [*problems, "mount: there is no mount of '/'"]
    options = root.get("options")
    listed = options.get("layers") if isinstance(options, dict) else None
    layers = listed if isinstance(listed, list) else []
    for index, (layer, (_, known)) in enumerate(zip(layers, _LAYERS, strict=False)):
        problems += _layer_problems(layer, known, f"mount of '/': layers[{index}]")
    sources = [layer.get("source") if isinstance(layer, dict) else None for layer in layers]
    if root.get("type") != "unionfs" or sources != [source for source, _ in _LAYERS]:
        problems.append(
            "mount of '/' must be a unionfs of ./build/mount/__ROOT and ./run/mount/__ROOT"
        )
    elif not _is_temporary(layers[1]) or layers[1].get("type") != "sefs":
        problems.append(
            "mount of '/': layers[1] must be a sefs whose options.temporary is true: a layer that "
            "stays could replace measured files, and every enclave of the same signer can write it"
        )
    return problems


def _layer_problems(layer: Any, known: set[str], where: str) -> list[str]:
    if not isinstance(layer, dict):
        return [f"{where} must be an object, not {layer!r}"]
    problems = [f"{where}: unknown key {key}" for key in sorted(set(layer) - _MOUNT_KEYS)]
    if (layer.get("target"), layer.get("type")) != ("/", "sefs"):
        problems.append(f"{where} must be a sefs with the target '/'")
    options = layer.get("options", {})
    if not isinstance(options, dict):
        return [*problems, f"{where}.options must be an object, not {options!r}"]
    extra = sorted(set(options) - known)
    problems += [f"{where}.options: unknown key {key}" for key in extra]
    if "MAC" in known and not isinstance(options.get("MAC"), str):
        problems.append(f'{where}.options.MAC must be a text: "", which the build fills in')
    return problems


def _is_temporary(mount: Mapping[str, Any]) -> bool:
    options = mount.get("options")
    return isinstance(options, dict) and options.get("temporary") is True


def _lasting_problems(mount: Mapping[str, Any], where: str) -> list[str]:
    """Finds a file system that keeps what an enclave wrote for the next one that mounts it."""
    kind = mount.get("type")
    if kind == "sefs" and not _is_temporary(mount):
        return [f"{where}: a sefs must have options.temporary true: nothing written may stay"]
    if kind in ("unionfs", "ext2") and mount.get("target") != "/":
        return [f"{where}: {kind} keeps what is written; use ramfs or a temporary sefs"]
    return []


def _covering_problems(mounts: list[Any], rootfs: Path) -> list[str]:
    """Finds mounts that hide files of the image, or whose target another mount hides."""
    problems: list[str] = []
    places: list[tuple[str, Path]] = []
    for index, mount in enumerate(mounts):
        target = mount.get("target") if isinstance(mount, dict) else None
        if not is_plain_path(target) or target == "/":
            continue
        place = resolve_inside(rootfs, target)
        if place is None or not place.is_dir():
            continue
        if any(place.iterdir()):
            problems.append(
                f"mount[{index}]: target {target} isn't empty in the image: measured files "
                "would be hidden"
            )
        problems += [
            f"mount[{index}]: target {target} lies in the mount of {other}, where it doesn't exist"
            for other, covered in places
            if place.is_relative_to(covered)
        ]
        places.append((target, place))
    return problems


def _mount_problems(mount: Any, where: str, rootfs: Path, heap_bytes: int) -> list[str]:
    if not isinstance(mount, dict):
        return [f"{where} must be an object, not {mount!r}"]
    problems = [f"{where}: unknown key {key}" for key in sorted(set(mount) - _MOUNT_KEYS)]
    options = mount.get("options", {})
    if not isinstance(options, dict):
        return [*problems, f"{where}.options must be an object, not {options!r}"]
    known = _ROOT_OPTION_KEYS if mount.get("target") == "/" else _OPTION_KEYS
    problems += [f"{where}.options: unknown key {key}" for key in sorted(set(options) - known)]
    if type(options.get("temporary", False)) is not bool:
        problems.append(f"{where}.options.temporary must be true or false")
    if not isinstance(mount.get("source", ""), str):
        problems.append(f"{where}.source must be a text, not {mount['source']!r}")
    problems += _cache_problems(options, where, heap_bytes)
    problems += _lasting_problems(mount, where)
    if mount.get("type") not in _MOUNT_TYPES:
        problems.append(f"{where}: unknown type {mount.get('type')!r}")
    target = mount.get("target")
    if not is_plain_path(target):
        return [*problems, f"{where}.target must be an absolute path without '..', not {target!r}"]
    place = resolve_inside(rootfs, target)
    if place is None or not place.is_dir():
        problems.append(f"{where}: target {target} isn't a folder of the image; add it to the bom")
    return problems


def _cache_problems(options: Mapping[str, Any], where: str, heap_bytes: int) -> list[str]:
    if "cache_size" not in options:
        return []
    try:
        size = parse_size(options["cache_size"])
    except ValueError as error:
        return [f"{where}.options.cache_size: {error}"]
    if size < MIN_CACHE_BYTES or size % PAGE_BYTES:
        return [f"{where}.options.cache_size must be whole pages and at least 192KB"]
    if size > heap_bytes:
        return [f"{where}.options.cache_size is larger than the kernel heap, which holds it"]
    return []


def _host_mount_problems(
    mount: Mapping[str, Any], where: str, instance: Path, host_mounts: Iterable[str] | None
) -> list[str]:
    target, source = mount.get("target"), mount.get("source")
    if host_mounts is not None and target not in tuple(host_mounts):
        return [f"{where}: host folder at {target} wasn't asked for: it is outside the enclave"]
    if not isinstance(source, str) or not source:
        return [f"{where}: a hostfs needs a source folder"]
    folder = (instance / source).resolve()
    if not folder.is_dir():
        return [f"{where}: host folder {folder} doesn't exist"]
    if instance.resolve().is_relative_to(folder):
        return [f"{where}: host folder {folder} holds the instance itself; name a narrower one"]
    return []
