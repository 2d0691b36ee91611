"""Small root file systems to be checked."""

from __future__ import annotations

import shutil
from pathlib import Path

from tools.image.autodep import GLIBC_FOLDER, LibraryFinder
from tools.image.interpreter import base_interpreter

ET_EXEC = (2).to_bytes(2, "little")
ET_DYN = (3).to_bytes(2, "little")
TYPE_OFFSET = 16
"""Where an ELF file says what it is."""


def make_rootfs(root: Path) -> Path:
    """A root file system with one script and the interpreter and libraries that it needs."""
    for name in ("bin", "etc", "lib64", "opt/interpreter", GLIBC_FOLDER.lstrip("/")):
        (root / name).mkdir(parents=True)
    interpreter = root / "opt" / "interpreter" / "python3"
    shutil.copy(base_interpreter(), interpreter)
    # Debian's python3 is ET_EXEC; nothing here is started, the checks only read the header.
    _write_type(interpreter, ET_DYN)
    needs = LibraryFinder().dependencies(base_interpreter(), None)
    assert not needs.missing
    for source, destination in needs.found:
        in_glibc = destination.startswith("/lib64/")
        place = destination if in_glibc else f"{GLIBC_FOLDER}/{Path(destination).name}"
        shutil.copy(source, root / place.lstrip("/"))
    write_script(root, "#!/opt/interpreter/python3\n")
    return root


def write_script(root: Path, first_line: str, mode: int = 0o755) -> None:
    """Replaces the script."""
    script = root / "bin" / "app"
    script.write_bytes(first_line.encode() + b"print('hello')\n")
    script.chmod(mode)


def make_fixed_position(path: Path) -> None:
    """Marks an executable as one that isn't position independent."""
    _write_type(path, ET_EXEC)


def _write_type(path: Path, kind: bytes) -> None:
    content = bytearray(path.read_bytes())
    content[TYPE_OFFSET : TYPE_OFFSET + len(kind)] = kind
    path.write_bytes(content)
