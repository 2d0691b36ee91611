"""Checks Occlum.json more strictly than Occlum does, and turns it into what is built.

Occlum drops unknown keys silently, and some wrong values only show as a panic
at start. Here each is a problem with its place, and all are listed at once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tools.errors import ImageBuildError
from tools.image.mount_checks import mount_problems
from tools.image.occlum_sizes import PAGE_BYTES, parse_size
from tools.image.rootfs_paths import is_plain_path

SIZING_KEY = "x-cloister-sizing"
"""Our one extra key: how the sizes were derived. Occlum ignores it, and it isn't measured."""

ARGUMENTS_BYTES = 512
"""Room for a program's name and arguments beside its environment."""

_KEYS = {
    "": {"resource_limits", "process", "entry_points", "env", "metadata", "feature", "mount"},
    "resource_limits": {
        *("kernel_space_heap_size", "kernel_space_heap_max_size", "kernel_space_stack_size"),
        *("user_space_size", "user_space_max_size", "init_num_of_threads", "max_num_of_threads"),
    },
    "process": {"default_stack_size", "default_heap_size", "default_mmap_size"},
    "env": {"default", "untrusted"},
    "metadata": {
        *("product_id", "version_number", "debuggable", "enable_kss", "family_id"),
        *("ext_prod_id", "disable_log"),
    },
    "feature": {"amx", "pkru", "io_uring", "enable_edmm", "enable_posix_shm"},
}
_OPTIONAL = {
    *("kernel_space_heap_max_size", "user_space_max_size", "init_num_of_threads"),
    *("disable_log", "amx", "pkru", "io_uring", "enable_edmm", "enable_posix_shm"),
}
_IDENTITY = re.compile(r"(0x)?[0-9A-Fa-f]{1,16}")
_LARGEST_FEATURE = {"amx": 2, "pkru": 2, "io_uring": 16}


def read_configuration(path: Path) -> dict[str, Any]:
    """Reads Occlum.json without judging it.

    Raises:
        ImageBuildError: it isn't a JSON object, or a key occurs twice in one; comments aren't JSON.
    """
    try:
        content = json.loads(
            path.read_text(encoding="utf-8"),
            object_pairs_hook=_without_duplicates,
            parse_constant=_refuse_constant,
        )
        json.dumps(content, ensure_ascii=False).encode()
    except (OSError, ValueError, RecursionError) as error:
        raise ImageBuildError(str(path), [f"can't be read as JSON: {error}"]) from error
    if not isinstance(content, dict):
        raise ImageBuildError(str(path), [f"must be an object, not {type(content).__name__}"])
    return content


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} occurs twice")
    return content


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} isn't a number of JSON")


def internal_configuration(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """What of a checked configuration is built in and measured."""
    return {key: value for key, value in configuration.items() if key != SIZING_KEY}


def user_space_bytes(configuration: Mapping[str, Any]) -> int:
    """Memory of all processes: without EDMM the largest value is the fixed one."""
    limits = configuration["resource_limits"]
    return parse_size(limits.get("user_space_max_size", limits["user_space_size"]))


def kernel_heap_bytes(configuration: Mapping[str, Any]) -> int:
    """The LibOS heap, likewise."""
    limits = configuration["resource_limits"]
    return parse_size(limits.get("kernel_space_heap_max_size", limits["kernel_space_heap_size"]))


def configuration_problems(
    configuration: Mapping[str, Any],
    rootfs: Path,
    instance: Path,
    host_mounts: Iterable[str] | None = None,
) -> list[str]:
    """Every reason not to build with this configuration.

    Args:
        configuration: from `read_configuration`.
        rootfs: the image's root file system, for the targets of mounts.
        instance: the instance folder, where relative host folders start.
        host_mounts: targets of host folders that the build was asked for; None allows any that
            names an existing folder.
    """
    problems = _unknown_and_missing(configuration)
    if any("missing" in problem or "must be an object" in problem for problem in problems):
        return problems
    problems += _size_problems(configuration)
    problems += _process_problems(configuration)
    problems += _metadata_problems(configuration)
    problems += _feature_problems(configuration["feature"])
    try:
        heap = kernel_heap_bytes(configuration)
    except ValueError:
        # Listed above already.
        heap = 2**63
    return problems + mount_problems(configuration["mount"], rootfs, instance, host_mounts, heap)


def _unknown_and_missing(configuration: Mapping[str, Any]) -> list[str]:
    problems: list[str] = []
    for section, known in _KEYS.items():
        content = configuration if section == "" else configuration.get(section, {})
        prefix = f"{section}." if section else ""
        if not isinstance(content, dict):
            problems.append(f"{section} must be an object, not {content!r}")
            continue
        extra = set(content) - known - ({SIZING_KEY} if section == "" else set())
        problems += [f"unknown key {prefix}{key}" for key in sorted(extra)]
        lacking = known - _OPTIONAL - set(content)
        problems += [f"{prefix}{key} is missing" for key in sorted(lacking)]
    return problems


def _size_problems(configuration: Mapping[str, Any]) -> list[str]:
    problems: list[str] = []
    sizes: dict[str, int] = {}
    for section in ("resource_limits", "process"):
        for key, value in configuration[section].items():
            if key.endswith("_size"):
                try:
                    sizes[key] = parse_size(value)
                except ValueError as error:
                    problems.append(f"{section}.{key}: {error}")
    for key, largest in (
        ("user_space_size", "user_space_max_size"),
        ("kernel_space_heap_size", "kernel_space_heap_max_size"),
    ):
        if key in sizes and sizes.get(largest, sizes[key]) < sizes[key]:
            problems.append(f"{key} is larger than {largest}")
    # The larger one is what there is: a small size beside it is what to start with under EDMM.
    space = max(sizes.get("user_space_size", 0), sizes.get("user_space_max_size", 0))
    if 0 < space < sizes.get("default_stack_size", 0):
        problems.append("default_stack_size is larger than user_space_size and its maximum")
    problems += [
        f"{k} must be whole pages of 4096 bytes" for k, v in sizes.items() if v % PAGE_BYTES
    ]
    problems += [f"{key} must not be 0" for key, value in sizes.items() if value == 0]
    threads = configuration["resource_limits"]["max_num_of_threads"]
    if type(threads) is not int or not 1 <= threads <= 4096:
        problems.append(f"resource_limits.max_num_of_threads must be 1 to 4096, not {threads!r}")
    first = configuration["resource_limits"].get("init_num_of_threads", 1)
    if type(first) is not int or not 1 <= first <= 4096:
        problems.append(f"resource_limits.init_num_of_threads must be 1 to 4096, not {first!r}")
    return problems


def _process_problems(configuration: Mapping[str, Any]) -> list[str]:
    problems: list[str] = []
    entry_points = configuration["entry_points"]
    if not isinstance(entry_points, list) or not entry_points:
        problems.append("entry_points must be a list with at least one path")
    else:
        problems += [
            f"entry point {entry!r} must be an absolute path other than '/', without '..'"
            for entry in entry_points
            if not is_plain_path(entry) or entry == "/"
        ]
    default = configuration["env"]["default"]
    if not _is_environment(default):
        problems.append("env.default must be a list of texts like 'NAME=value', each name once")
    else:
        problems += _environment_size_problems(configuration, default)
    if configuration["env"]["untrusted"] != []:
        problems.append(
            f"env.untrusted must be empty, not {configuration['env']['untrusted']!r}: "
            "it would let the host choose what the app sees"
        )
    return problems


def _environment_size_problems(configuration: Mapping[str, Any], default: list[str]) -> list[str]:
    try:
        stack_bytes = parse_size(configuration["process"]["default_stack_size"])
    except ValueError:
        return []
    allowed = max(PAGE_BYTES, stack_bytes // 256)
    # Each text ends in a zero and has a pointer of 8 bytes.
    needed = sum(len(item.encode()) + 9 for item in default) + ARGUMENTS_BYTES
    if needed <= allowed:
        return []
    return [f"env.default and arguments need {needed} bytes; the stack has room for {allowed}"]


def _metadata_problems(configuration: Mapping[str, Any]) -> list[str]:
    metadata = configuration["metadata"]
    problems = []
    if metadata["debuggable"] is not False:
        problems.append(
            "metadata.debuggable must be false: a debugger on the host could read the enclave"
        )
    for key in ("product_id", "version_number"):
        if type(metadata[key]) is not int or not 0 <= metadata[key] < 2**16:
            problems.append(f"metadata.{key} must be 0 to 65535, not {metadata[key]!r}")
    if type(metadata["enable_kss"]) is not bool:
        problems.append(
            f"metadata.enable_kss must be true or false, not {metadata['enable_kss']!r}"
        )
    if type(metadata.get("disable_log", True)) is not bool:
        problems.append(
            f"metadata.disable_log must be true or false, not {metadata['disable_log']!r}"
        )
    for key in ("family_id", "ext_prod_id"):
        identity = metadata[key]
        if not isinstance(identity, dict) or set(identity) != {"high", "low"}:
            problems.append(f"metadata.{key} must have exactly 'high' and 'low'")
            continue
        problems += [
            f"metadata.{key}.{half} must be up to 16 hex digits like '0x1f', not {value!r}"
            for half, value in identity.items()
            if not isinstance(value, str) or _IDENTITY.fullmatch(value) is None
        ]
    return problems


def _feature_problems(feature: Mapping[str, Any]) -> list[str]:
    problems: list[str] = []
    for key, value in feature.items():
        if key.startswith("enable_") and type(value) is not bool:
            problems.append(f"feature.{key} must be true or false, not {value!r}")
        largest = _LARGEST_FEATURE.get(key)
        if largest is not None and (type(value) is not int or not 0 <= value <= largest):
            problems.append(f"feature.{key} must be 0 to {largest}, not {value!r}")
    return problems


def _is_environment(value: Any) -> bool:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        return False
    names = [item.partition("=")[0] for item in value]
    return all(n and "=" in i for n, i in zip(names, value, strict=True)) and len(
        set(names)
    ) == len(names)
