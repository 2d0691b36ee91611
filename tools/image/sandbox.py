"""How the stand-in starts a program: in a sandbox where it can, else as a plain process."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools.image.instance import Instance
from tools.image.layers import (
    NAMESPACE,
    OVERLAY_SCRIPT,
    fresh_copy,
    fresh_layer,
    host_mounts,
    memory_mounts,
    overlay_options,
    overlay_works,
    write_host_files,
)
from tools.image.occlum_sizes import parse_size
from tools.image.policy import kernel_heap_bytes, user_space_bytes
from tools.image.processes import succeeds
from tools.image.rootfs_checks import interpreter_of
from tools.image.rootfs_paths import resolve_inside
from tools.image.syscall_filter import open_filter
from tools.image.threads import process_limit

MARK = "OCCLUM_STAND_IN"
ROOT_MARK = "OCCLUM_STAND_IN_ROOT"
OPEN_FILES = 1024
"""RLIMIT_NOFILE's soft value in Occlum."""

SEARCH_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")

# The loader is the host's and would look in the host's folders; its cache tells it where Occlum's
# loader looks. Everything after "--" replaces the shell.
_CACHE_SCRIPT = 'ldconfig -X -r "$2" -f /dev/null -C /etc/ld.so.cache /opt/occlum/glibc/lib'
_JOIN_SCRIPT = 'if [ -n "$3" ]; then echo $$ > "$3/cgroup.procs"; fi'


@dataclass(slots=True)
class Start:
    """A command line that is ready to run.

    Attributes:
        argv: what to start.
        environment: its whole environment.
        pass_fds: descriptors that it needs; the starter closes them afterwards.
        skipped_levels: generations of processes above the app's own.
        banner: lines that say what is in force and what isn't.
    """

    argv: list[str]
    environment: dict[str, str]
    pass_fds: list[int] = field(default_factory=list)
    skipped_levels: int = 0
    banner: list[str] = field(default_factory=list)


def sandbox_works() -> bool:
    """Whether bubblewrap is there and may make its namespaces."""
    trial = ["bwrap", "--unshare-user", "--unshare-pid", "--ro-bind", "/", "/", "true"]
    tools = all(shutil.which(tool) for tool in ("bwrap", "unshare", "prlimit"))
    return tools and succeeds([*NAMESPACE, *trial])


def sandboxed_start(
    instance: Instance,
    configuration: Mapping[str, Any],
    command: Sequence[str],
    cgroup: Path | None,
) -> Start:
    """Prepares a start inside namespaces made of the image alone.

    Args:
        instance: a built instance.
        configuration: as built in.
        command: absolute path of the program in the image, and its arguments.
        cgroup: control group to join, or None.
    """
    root, script, options, how = _root(instance)
    threads = configuration["resource_limits"]["max_num_of_threads"]
    limits = _limits(configuration)
    banner = [how, *_limit_lines(configuration)]
    number = process_limit(threads)
    if number is not None:
        limits.append(f"--nproc={number}:{number}")
    bound = ["RLIMIT_NPROC"] * (number is not None) + ["pids cgroup"] * (cgroup is not None)
    banner.append(f"threads: at most {threads}, held by {' and '.join([*bound, 'a supervisor'])}")
    start = Start(argv=[], environment={"PATH": SEARCH_PATH}, skipped_levels=2, banner=banner)
    script = "; ".join(["set -e", _JOIN_SCRIPT, script, 'shift 3; exec "$@"'])
    shell = ["sh", "-c", script, "sh", options, str(root), str(cgroup or "")]
    arguments = _bubblewrap(root, configuration, instance) + _filter(start)
    start.argv = [*NAMESPACE, *shell, "prlimit", *limits, "bwrap", *arguments, "--", *command]
    return start


def _root(instance: Instance) -> tuple[Path, str, str, str]:
    """Where the root is, the shell commands and options that put it there, and a banner line."""
    if not overlay_works(instance):
        layer = fresh_copy(instance)
        write_host_files(instance, layer)
        return layer, _CACHE_SCRIPT, "", "root: a copy of the image (no overlay here)"
    layer = fresh_layer(instance)
    work, merged = layer.with_name(".work"), layer.with_name(".merged")
    for folder in (work, merged):
        folder.mkdir(exist_ok=True)
    write_host_files(instance, layer)
    options = overlay_options(instance.rootfs, layer, work)
    script = f"{OVERLAY_SCRIPT}; {_CACHE_SCRIPT}"
    return (
        merged,
        script,
        options,
        "root: the image, read-only, under a layer that is empty at every start",
    )


def _bubblewrap(root: Path, configuration: Mapping[str, Any], instance: Instance) -> list[str]:
    arguments = ["--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts"]
    arguments += ["--uid", "0", "--gid", "0", "--cap-drop", "ALL", "--die-with-parent"]
    arguments += ["--bind", str(root), "/", "--proc", "/proc", "--tmpfs", "/dev"]
    for device in DEVICES:
        arguments += ["--dev-bind", device, device]
    arguments += ["--dir", "/dev/shm", "--symlink", "/proc/self/fd", "/dev/fd"]  # noqa: S108 - theirs
    for target in memory_mounts(configuration):
        arguments += ["--size", str(kernel_heap_bytes(configuration)), "--tmpfs", target]
    for source, target in host_mounts(configuration, instance):
        arguments += ["--bind", str(source), target]
    arguments += ["--chdir", "/", "--clearenv"]
    for name, value in environment_of(configuration, "sandbox").items():
        arguments += ["--setenv", name, value]
    return arguments


def _filter(start: Start) -> list[str]:
    try:
        descriptor = open_filter()
    except RuntimeError as error:
        start.banner.append(f"NOT checked: system calls; install libseccomp2 ({error})")
        return []
    start.pass_fds.append(descriptor)
    start.banner.append("system calls: filtered as Occlum 0.31.0 answers them")
    return ["--seccomp", str(descriptor)]


def _limits(configuration: Mapping[str, Any]) -> list[str]:
    memory = user_space_bytes(configuration)
    stack = parse_size(configuration["process"]["default_stack_size"])
    return [f"--as={memory}:{memory}", f"--stack={stack}:", f"--nofile={OPEN_FILES}:"]


def _limit_lines(configuration: Mapping[str, Any]) -> list[str]:
    memory = user_space_bytes(configuration)
    return [f"memory: RLIMIT_AS {memory // (1024 * 1024)} MB per process"]


def environment_of(configuration: Mapping[str, Any], mark: str) -> dict[str, str]:
    """The app's environment: what the configuration says, and the mark of the simulation."""
    pairs = (item.partition("=") for item in configuration["env"]["default"])
    return {name: value for name, _, value in pairs} | {MARK: mark}


def plain_start(
    instance: Instance, configuration: Mapping[str, Any], command: Sequence[str]
) -> Start:
    """Prepares a start as an ordinary process, on a machine without namespaces.

    The program sees the host's root; `OCCLUM_STAND_IN_ROOT` tells it where the image is.
    """
    root = fresh_copy(instance)
    write_host_files(instance, root)
    for source, target in host_mounts(configuration, instance):
        _link_host_folder(root / target.lstrip("/"), source)
    environment = environment_of(configuration, "process") | {ROOT_MARK: str(root)}
    if "PYTHONHOME" in environment:
        environment["PYTHONHOME"] = f"{root}{environment['PYTHONHOME']}"
    program = resolve_inside(root, command[0]) or root / command[0].lstrip("/")
    interpreter = interpreter_of(program)
    argv = [str(program), *command[1:]]
    if interpreter is not None:
        argv.insert(0, f"{root}{interpreter}")
    limits = _limits(configuration) if shutil.which("prlimit") else []
    if limits:
        argv = ["prlimit", *limits, *argv]
    if shutil.which("setpriv"):  # a supervisor that is killed can't end the app any more
        argv = ["setpriv", "--pdeathsig", "KILL", *argv]
    threads = configuration["resource_limits"]["max_num_of_threads"]
    return Start(
        argv=_located(argv),
        environment=environment,
        banner=[
            "bubblewrap or its namespaces are missing: the program runs as a plain process",
            "NOT checked: files outside the image, system calls, the image's own glibc and",
            "             libraries, processes, devices; install bubblewrap to check them",
            *(_limit_lines(configuration) if limits else ["NOT checked: memory, no prlimit here"]),
            f"threads: at most {threads}, held by a supervisor",
        ],
    )


def _located(argv: list[str]) -> list[str]:
    """The program's own environment has no PATH, so its path is looked up here."""
    return [shutil.which(argv[0], path=os.pathsep.join([SEARCH_PATH])) or argv[0], *argv[1:]]


def _link_host_folder(place: Path, source: Path) -> None:
    if place.is_symlink():
        place.unlink()
    elif place.is_dir():
        shutil.rmtree(place)
    place.symlink_to(source)
