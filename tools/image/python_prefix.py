"""Stages /opt/python-occlum: interpreter, standard library, locked requirements, the app.

Each step has a stamp made of everything that it depends on, so that a second
build neither needs a network nor much time.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatch
from pathlib import Path

from tools.errors import ImageBuildError
from tools.files import locked, write_file
from tools.image.interpreter import base_interpreter, install_interpreter
from tools.image.modes import normalise_modes
from tools.image.processes import output_of
from tools.launcher import ROOT

PREFIX = "/opt/python-occlum"
"""Where the prefix stands in the image; compiled modules carry it in their tracebacks."""

STANDARD_LIBRARY = Path(sysconfig.get_path("stdlib"))

LOCK = ROOT / "occlum_image" / "requirements.lock"

NOT_PASSED_ON = ("PYTHON", "HATCH_")
"""Variables of the person who builds that would change what is built, by their beginnings."""

_LAYOUT = "2"
"""Part of every stamp; another number makes every prefix new."""

STDLIB_EXCLUDED = (
    *("__pycache__", "site-packages", "dist-packages", "config-*", "test", "tests"),
    *("idlelib", "tkinter", "turtledemo", "turtle.py", "ensurepip", "lib2to3", "pydoc_data"),
    *("distutils", "_distutils_system_mod.py", "venv", "curses", "dbm", "sqlite3", "EXTERNALLY-*"),
    # Debian's hook reads /etc/python3.11, which isn't in the image.
    "sitecustomize.py",
    *("_test*.so", "_ctypes_test*.so", "_xxtestfuzz*.so", "xxlimited*.so", "_xxsub*.so"),
    # Each of these would pull a library of the host's into the enclave; nothing uses them.
    *("_tkinter*.so", "_curses*.so", "readline*.so", "_dbm*.so", "_gdbm*.so", "_sqlite3*.so"),
    *("nis*.so", "ossaudiodev*.so", "audioop*.so", "_crypt*.so", "spwd*.so", "_uuid*.so"),
)
"""What the standard library is copied without, by name."""

PACKAGES_EXCLUDED = (
    *("numpy/distutils", "numpy/f2py", "numpy/typing/tests", "numpy/_pyinstaller"),
    *("onnxruntime/tools", "onnxruntime/transformers", "onnxruntime/quantization"),
    *("onnxruntime/datasets", "bin"),
    # The C library for other languages: the Python module has all of it inside and never opens it.
    "onnxruntime/capi/libonnxruntime.so*",
)
"""What of the installed packages serves no server, as patterns."""


def stage_python(prefix: Path, wheels: Path, say: Callable[[str], None]) -> None:
    """Makes a prefix that holds all of the app's Python, or leaves it when it is up to date.

    One build at a time does it; another one waits and finds it up to date.

    Args:
        prefix: folder named python-occlum; written beside and renamed.
        wheels: folder in which downloaded wheels are kept for the next build.
        say: takes one line of progress.

    Raises:
        ImageBuildError: a step failed; says which.
    """
    lock = prefix.with_name(f"{prefix.name}.lock")
    with locked(lock, lambda: say(f"waiting for another build that works on {prefix}")):
        _stage_alone(prefix, wheels, say)


def _stage_alone(prefix: Path, wheels: Path, say: Callable[[str], None]) -> None:
    stamp = prefix.with_name(f"{prefix.name}.stamp")
    files = [LOCK, *_own_sources(), base_interpreter(), *_library_sources()]
    wanted = _digest([_LAYOUT, sys.version], files)
    if prefix.is_dir() and stamp.is_file() and stamp.read_text() == wanted:
        say(f"python prefix is up to date: {prefix}")
        return
    draft = prefix.with_name(f"{prefix.name}.partial")
    shutil.rmtree(draft, ignore_errors=True)
    say("copying the interpreter and the standard library")
    install_interpreter(draft)
    copy_standard_library(draft)
    fetch_wheels(wheels, say)
    say("installing the locked requirements and this project's wheel")
    packages = _packages_folder(draft)
    _install_packages(packages, wheels)
    say("compiling modules")
    _compile_modules(draft)
    normalise_modes(draft)
    stamp.unlink(missing_ok=True)
    shutil.rmtree(prefix, ignore_errors=True)
    draft.rename(prefix)
    write_file(stamp, wanted.encode())


def fetch_wheels(wheels: Path, say: Callable[[str], None]) -> None:
    """Downloads the locked wheels, unless the folder already holds those of this lock file."""
    stamp = wheels / ".stamp"
    wanted = _digest([_LAYOUT, sys.version], [LOCK])
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    say("downloading the locked wheels")
    wheels.mkdir(parents=True, exist_ok=True)
    _pip(
        [
            *("download", "--require-hashes", "--only-binary", ":all:", "--no-deps"),
            *("--dest", str(wheels), "--requirement", str(LOCK)),
        ],
        "downloading the wheels of occlum_image/requirements.lock",
    )
    stamp.write_text(wanted)


def _digest(texts: Iterable[str], files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode() + b"\0")
    for file in files:
        digest.update(str(file).encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _own_sources() -> list[Path]:
    sources = [path for path in (ROOT / "app").rglob("*") if path.is_file()]
    kept = [path for path in sources if "__pycache__" not in path.parts]
    return sorted([*kept, ROOT / "pyproject.toml"])


def copy_standard_library(prefix: Path) -> None:
    """Copies this interpreter's standard library into a prefix, without what serves no server."""
    target = prefix / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}"

    def excluded(_folder: str, names: list[str]) -> set[str]:
        return {name for name in names if _serves_no_server(name)}

    shutil.copytree(STANDARD_LIBRARY, target, ignore=excluded)


def _library_sources() -> Iterator[Path]:
    """What `copy_standard_library` copies: a patched library makes a new prefix."""
    for folder, folders, names in os.walk(STANDARD_LIBRARY):
        folders[:] = sorted(name for name in folders if not _serves_no_server(name))
        yield from (Path(folder) / n for n in sorted(names) if not _serves_no_server(n))


def _serves_no_server(name: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in STDLIB_EXCLUDED)


def _packages_folder(prefix: Path) -> Path:
    """Asks the new interpreter where it looks for packages: distributions differ."""
    code = "import site; print('\\n'.join(site.getsitepackages()))"
    env = {"PYTHONHOME": str(prefix), "PYTHONDONTWRITEBYTECODE": "1"}
    argv: list[str | Path] = [prefix / "bin" / "python3", "-c", code]
    shown = output_of(argv, "starting the interpreter", env, without=NOT_PASSED_ON)
    for line in shown.splitlines():
        if Path(line).is_relative_to(prefix / "lib"):
            return Path(line)
    raise ImageBuildError("Python interpreter", [f"it looks for packages in {shown.split()} only"])


def _install_packages(packages: Path, wheels: Path) -> None:
    packages.mkdir(parents=True, exist_ok=True)
    # Isolated: a person's configuration of pip could choose what is installed and where.
    target = ["--isolated", "--no-index", "--no-deps", "--no-compile", "--target", str(packages)]
    _pip(
        [
            *("install", *target, "--require-hashes", "--find-links", str(wheels)),
            *("--requirement", str(LOCK)),
        ],
        "installing occlum_image/requirements.lock",
    )
    own = packages.parent / "own-wheel"
    _pip(
        [
            "wheel",
            "--isolated",
            "--no-build-isolation",
            "--no-deps",
            "--wheel-dir",
            str(own),
            str(ROOT),
        ],
        "building this project's wheel",
    )
    built = [str(path) for path in own.glob("*.whl")]
    _pip(["install", *target, *built], "installing this project's wheel")
    shutil.rmtree(own)
    # pip notes there where on this host the wheel was: no business of the image's.
    for note in packages.glob("*.dist-info/direct_url.json"):
        note.unlink()
    for pattern in PACKAGES_EXCLUDED:
        for path in packages.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for folder in [path for path in packages.rglob("tests") if path.is_dir()]:
        shutil.rmtree(folder, ignore_errors=True)


def _pip(arguments: list[str], purpose: str) -> None:
    common = ["--quiet", "--disable-pip-version-check"]
    output_of([sys.executable, "-m", "pip", *arguments, *common], purpose, without=NOT_PASSED_ON)


def _compile_modules(prefix: Path) -> None:
    """Compiles everything for hash-unchecked use: the image keeps no times to compare with."""
    # Forced, and without writing by itself what it imports meanwhile: that would be compiled with
    # the time of its source and the place of this prefix, and left as it is. By one process, as
    # what it compiled before can show in the bytes that follow.
    options = ["-q", "-f", "-j", "1", "--invalidation-mode", "unchecked-hash"]
    paths = ["-s", str(prefix), "-p", PREFIX, str(prefix / "lib")]
    argv = [str(prefix / "bin" / "python3"), "-m", "compileall", *options, *paths]
    environment = {"PYTHONHOME": str(prefix), "PYTHONDONTWRITEBYTECODE": "1"}
    output_of(argv, "compiling the modules", environment, without=NOT_PASSED_ON)
