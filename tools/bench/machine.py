"""What a benchmark ran on: machine, versions, commit."""

from __future__ import annotations

import os
import platform
import shutil
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from app import __version__
from tools.bench.results import NOT_AVAILABLE, Result
from tools.errors import ImageBuildError
from tools.image.processes import output_of
from tools.launcher import ROOT

PACKAGES: Final = ("onnxruntime", "numpy", "cryptography", "python-mbedtls", "flask", "tract")
"""Packages whose version changes what is measured."""


def new_result(subcommand: str, settings: dict[str, str]) -> Result:
    """Makes an empty result that says when, where and with what it was measured."""
    return Result(
        subcommand=subcommand,
        started=datetime.now().astimezone().isoformat(timespec="seconds"),
        machine=machine(),
        versions=versions(),
        commit=commit(ROOT),
        settings=settings,
    )


def machine() -> dict[str, str]:
    """Describes the hardware and the kernel."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    model = next((line.split(":", 1)[1].strip() for line in lines if "model name" in line), "")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": model or platform.machine(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{memory / (1 << 30):.1f} GiB",
        "kernel": platform.release(),
        "sgx": "device there" if Path("/dev/sgx_enclave").exists() else NOT_AVAILABLE,
        "occlum": "on PATH" if shutil.which("occlum") else NOT_AVAILABLE,
    }


def versions() -> dict[str, str]:
    """Gives the versions of Python, this project and the packages that matter."""
    found = {"python": platform.python_version(), "cloister": __version__}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = NOT_AVAILABLE
    return found


def commit(folder: Path) -> str:
    """Gives the commit that is checked out, "+changes" added when tracked files differ from it."""
    try:
        name = output_of(["git", "rev-parse", "--short=12", "HEAD"], "commit", cwd=folder).strip()
        changes = output_of(
            ["git", "status", "--porcelain", "--untracked-files=no"], "commit", cwd=folder
        )
    except ImageBuildError:
        return NOT_AVAILABLE
    return f"{name}+changes" if changes.strip() else name
