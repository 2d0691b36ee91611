"""A Python interpreter that Occlum can start.

Occlum runs position independent executables only (`ET_DYN`). Some
distributions build `python3` as `ET_EXEC`; there a launcher of three lines is
compiled against the shared libpython of the same version.
"""

from __future__ import annotations

import shutil
import sys
import sysconfig
from pathlib import Path

from tools.errors import ImageBuildError
from tools.image.elf import DT_RPATH, ElfFacts, read_elf, run_path_spot
from tools.image.processes import output_of

RUN_PATH = "$ORIGIN/../lib"
"""Where `bin/python3` looks for libpython: beside itself, wherever the prefix stands.

Written as DT_RPATH, which the loader follows before LD_LIBRARY_PATH, and not as DT_RUNPATH, which
it follows after it: copy_bom asks the loader with LD_LIBRARY_PATH set, and would put the
distribution's libpython into the image beside this one.
"""

LAUNCHER_SOURCE = """\
int Py_BytesMain(int argc, char **argv);
int main(int argc, char **argv) { return Py_BytesMain(argc, argv); }
"""

SOURCE = "Python interpreter"


def base_interpreter() -> Path:
    """The interpreter behind the virtual environment, links resolved."""
    return Path(getattr(sys, "_base_executable", sys.executable)).resolve()


def require_release(version: tuple[int, int, int, str, int]) -> None:
    """Refuses an alpha, a beta or a release candidate: none gets security fixes.

    Args:
        version: as `sys.version_info` has it.

    Raises:
        ImageBuildError: it isn't a final release.
    """
    major, minor, micro, level, serial = version
    if level == "final":
        return
    raise ImageBuildError(
        SOURCE,
        [
            f"{major}.{minor}.{micro} {level} {serial} is a pre-release, which gets no "
            "security fixes; set up .venv with a final release: make setup PYTHON=…"
        ],
    )


def install_interpreter(prefix: Path, base: Path | None = None) -> None:
    """Puts `bin/python3`, and libpython where there is one, into a prefix.

    Args:
        prefix: folder that becomes /opt/python-occlum; `bin` and `lib` are made.
        base: interpreter to start from; the one behind the virtual environment by default.

    Raises:
        ImageBuildError: it is a pre-release, or it isn't position independent and no launcher can
            be compiled.
    """
    require_release(sys.version_info)
    base = base or base_interpreter()
    facts = read_elf(base)
    if facts is None:
        raise ImageBuildError(SOURCE, [f"{base} isn't an ELF executable"])
    (prefix / "bin").mkdir(parents=True, exist_ok=True)
    (prefix / "lib").mkdir(exist_ok=True)
    target = prefix / "bin" / "python3"
    library = _copy_libpython(base, facts, prefix / "lib")
    if facts.kind == "ET_DYN" and (library is None or _has_room_for_run_path(base)):
        shutil.copyfile(base, target)
        if library is not None:
            _write_run_path(target)
    else:
        _compile_launcher(target, library or _find_libpython(base, prefix / "lib"))
    target.chmod(0o755)


def _copy_libpython(base: Path, facts: ElfFacts, folder: Path) -> Path | None:
    """Copies the libpython that an interpreter is linked to; None when it has its own inside."""
    name = next((name for name in facts.needed if name.startswith("libpython")), None)
    if name is None:
        return None
    run_path = [*facts.old_run_path, *facts.run_path]
    places = [Path(place.replace("$ORIGIN", str(base.parent))) for place in run_path]
    for place in [*places, *library_folders(base)]:
        if (place / name).is_file():
            return Path(shutil.copyfile(place / name, folder / name))
    raise ImageBuildError(SOURCE, [f"{base} needs {name}, which isn't in {places}"])


def _find_libpython(base: Path, folder: Path) -> Path:
    name = f"libpython{sys.version_info.major}.{sys.version_info.minor}.so.1.0"
    for place in library_folders(base):
        if (place / name).is_file():
            return Path(shutil.copyfile(place / name, folder / name))
    raise ImageBuildError(
        SOURCE,
        [
            f"{base} isn't position independent, Occlum can't start it, and {name} isn't "
            f"installed to build one that is; install the packages gcc, libc6-dev and "
            f"libpython{sys.version_info.major}.{sys.version_info.minor}"
        ],
    )


def library_folders(base: Path) -> list[Path]:
    """Where libpython may be: first beside the interpreter, so that both are of one build."""
    beside = base.parent.parent / "lib"
    triplet = "x86_64-linux-gnu"
    configured = Path(sysconfig.get_config_var("LIBDIR") or "/usr/lib")
    return [beside / triplet, beside, configured, Path("/usr/lib") / triplet, Path("/usr/lib64")]


def _has_room_for_run_path(path: Path) -> bool:
    spot = run_path_spot(path)
    return spot is not None and spot.length >= len(RUN_PATH)


def _write_run_path(path: Path) -> None:
    """Overwrites the run path in place; the remainder of the old text becomes zeros."""
    spot = run_path_spot(path)
    if spot is None:
        raise ImageBuildError(SOURCE, [f"{path} has no run path to overwrite"])
    with path.open("r+b") as file:
        file.seek(spot.text_offset)
        file.write(RUN_PATH.encode().ljust(spot.length, b"\0"))
        file.seek(spot.tag_offset)
        file.write(DT_RPATH.to_bytes(8, "little"))


def _compile_launcher(target: Path, library: Path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise ImageBuildError(
            SOURCE,
            ["a position independent launcher has to be compiled; install gcc and libc6-dev"],
        )
    # The launcher is linked to the library by its file name, which must be its soname.
    source = target.with_name("launcher.c")
    source.write_text(LAUNCHER_SOURCE)
    flags = ["-O2", "-fPIE", "-pie", f"-Wl,-rpath,{RUN_PATH}", "-Wl,--disable-new-dtags"]
    try:
        output_of([compiler, *flags, "-o", target, source, library], "compiling the launcher")
    finally:
        source.unlink()
