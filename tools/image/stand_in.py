"""`occlum` for machines without SGX: the same instance folder, the same command line, no enclave.

Everything it does is simulation: nothing is encrypted in memory, and a
measurement that it prints can't be attested. What Occlum would refuse for want
of a system call, memory, threads or a file is refused here as well.
"""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tools.command_line import run
from tools.errors import ImageBuildError
from tools.files import write_file, write_new_file
from tools.image.instance import STATUS_FILE, Instance
from tools.image.packing import build_instance, require_unaltered
from tools.image.rootfs_checks import program_problems
from tools.image.sandbox import plain_start, sandbox_works, sandboxed_start
from tools.image.supervisor import supervise
from tools.image.syscall_filter import DEVIATIONS
from tools.image.threads import pids_cgroup
from tools.launcher import ROOT

TEMPLATE = ROOT / "occlum_image" / "Occlum.json"
CREATE_FAILED = 127
"""Occlum's exit status when the program can't be started."""

FOLDERS = (
    *("bin", "dev", "etc", "host", "lib", "lib64", "opt/occlum/glibc/lib", "proc", "root"),
    *("run", "sbin", "sys", "tmp"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Returns:
        0, the app's status for `run`, 1 when a build is refused, 2 for wrong usage.
    """
    arguments = _parser().parse_args(argv)
    return run(lambda: int(arguments.command(arguments)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="occlum",
        description="Stand-in for occlum on machines without SGX: simulation, no protection.",
        epilog="start, exec, stop, package, mount and gdb are Occlum's alone.",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    new = commands.add_parser("new", help="make a folder and an instance in it")
    new.add_argument("path", type=Path)
    new.set_defaults(command=_new)
    init = commands.add_parser("init", help="make an instance in this folder")
    init.set_defaults(command=_init)
    build = commands.add_parser("build", help="check and pack image/ (from bom.yaml if it's there)")
    build.add_argument("--sign-key", type=Path, metavar="PEM", help="RSA 3072 bits, exponent 3")
    mode = os.environ.get("SGX_MODE", "HW")
    build.add_argument("--sgx-mode", choices=("HW", "SIM"), default=mode)
    build.add_argument("-f", "--force", action="store_true", help="accepted; every build is whole")
    build.set_defaults(command=_build)
    start = commands.add_parser(
        "run",
        help="start a program of the image",
        epilog=_deviations(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    start.add_argument("program", help="absolute path in the image")
    start.add_argument("arguments", nargs=argparse.REMAINDER)
    start.set_defaults(command=_run)
    show = commands.add_parser("print", help="show a measurement of the last build")
    show.add_argument("what", choices=("mrenclave", "mrsigner"))
    show.set_defaults(command=_print)
    key = commands.add_parser("gen-image-key", help="write a random image key")
    key.add_argument("path", type=Path)
    key.set_defaults(command=_gen_image_key)
    return parser


def _deviations() -> str:
    lines = [f"  {what}: {how}; {why}" for what, how, why in DEVIATIONS]
    return "\n".join(["where the stand-in differs from Occlum:", *lines])


def _new(arguments: argparse.Namespace) -> int:
    path: Path = arguments.path
    if path.exists():
        raise ImageBuildError(str(path), ["exists already; name a new folder"])
    path.mkdir(parents=True)
    return _initialise(path)


def _init(_arguments: argparse.Namespace) -> int:
    return _initialise(Path.cwd())


def _initialise(folder: Path) -> int:
    if (folder / STATUS_FILE).exists():
        raise ImageBuildError(str(folder), ["is an instance already"])
    for name in FOLDERS:
        (folder / "image" / name).mkdir(parents=True, exist_ok=True)
    (folder / "image" / "etc" / "hosts").write_text("127.0.0.1   localhost\n")
    write_file(folder / "Occlum.json", TEMPLATE.read_bytes())
    write_file(folder / STATUS_FILE, b"initialized\n")
    print(f"{folder}: initialised as an Occlum instance (stand-in)")
    return 0


def _build(arguments: argparse.Namespace) -> int:
    instance = Instance.at(Path.cwd())
    if arguments.sign_key is None:
        raise ImageBuildError(
            "occlum build",
            ["name your own key with --sign-key: Occlum's default key is public, anyone can sign"],
        )
    with instance.claimed():
        notes = build_instance(instance, arguments.sign_key, arguments.sgx_mode)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    print(f"built {instance.folder} (simulation, no SGX)")
    return 0


def _run(arguments: argparse.Namespace) -> int:
    instance = Instance.at(Path.cwd())
    configuration = instance.built_configuration()
    program: str = arguments.program
    if not _is_entry(program, configuration["entry_points"]):
        print(
            f"occlum (stand-in): EACCES: {program}: program path is NOT a valid entry point; "
            f"allowed are {', '.join(configuration['entry_points'])}",
            file=sys.stderr,
        )
        return CREATE_FAILED
    if problems := program_problems(instance.rootfs, program):
        print(f"occlum (stand-in): {'; '.join(problems)}", file=sys.stderr)
        return CREATE_FAILED
    with instance.claimed():
        require_unaltered(instance)
        status = _start(instance, configuration, [program, *arguments.arguments])
    if status < 0:
        # Whoever sent the signal sees that it worked.
        signal.signal(-status, signal.SIG_DFL)
        signal.raise_signal(-status)
    return status


def _start(instance: Instance, configuration: dict[str, Any], command: list[str]) -> int:
    threads: int = configuration["resource_limits"]["max_num_of_threads"]
    if not sandbox_works():
        start = plain_start(instance, configuration, command)
        _show_banner(start.banner)
        return supervise(start, threads)
    with pids_cgroup(threads) as cgroup:
        start = sandboxed_start(instance, configuration, command, cgroup)
        _show_banner(start.banner)
        return supervise(start, threads)


def _is_entry(program: str, entry_points: Sequence[str]) -> bool:
    path = Path(program)
    if not path.is_absolute() or ".." in path.parts:
        return False
    return any(path.is_relative_to(entry) for entry in entry_points)


def _show_banner(lines: Sequence[str]) -> None:
    print("occlum (stand-in): SIMULATION, no SGX: nothing here is protected", file=sys.stderr)
    for line in lines:
        print(f"  {line}", file=sys.stderr, flush=True)


def _print(arguments: argparse.Namespace) -> int:
    instance = Instance.at(Path.cwd())
    instance.built_configuration()
    print((instance.build / f".{arguments.what}").read_text())
    if arguments.what == "mrenclave":
        print("simulation: no enclave has this measurement", file=sys.stderr)
    return 0


def _gen_image_key(arguments: argparse.Namespace) -> int:
    path: Path = arguments.path
    if path.exists():
        raise ImageBuildError(str(path), ["exists already; a key is never overwritten"])
    text = "-".join(f"{byte:02x}" for byte in secrets.token_bytes(16))
    write_new_file(path, text.encode(), mode=0o600)
    return 0
