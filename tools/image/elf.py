"""What the image builder needs to know about an ELF file, read once into a frozen value."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elftools.common.exceptions import ELFError
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection
from elftools.elf.segments import InterpSegment

ELF_MAGIC = b"\x7fELF"
_DAMAGED = (ELFError, OSError, ValueError, LookupError, ArithmeticError, TypeError, AttributeError)
DT_RPATH = 15
"""Tag of a run path that the loader follows before LD_LIBRARY_PATH."""

DYNAMIC_ENTRY_BYTES = 16
"""A tag and a value, eight bytes each."""


@dataclass(frozen=True, slots=True)
class ElfFacts:
    """One executable or shared library.

    Attributes:
        kind: "ET_DYN" is position independent, "ET_EXEC" is not.
        interpreter: the loader named by the file, None for a library.
        needed: names of the shared libraries that it names itself.
        soname: the name that a library gives itself, if it does.
        run_path: DT_RUNPATH: folders to search after LD_LIBRARY_PATH; may hold `$ORIGIN`.
        old_run_path: DT_RPATH: folders to search before it; the loader ignores them beside a
            DT_RUNPATH.
        glibc: highest glibc version that it needs, (0, 0) when none.
    """

    kind: str
    interpreter: str | None
    needed: tuple[str, ...]
    soname: tuple[str, ...]
    run_path: tuple[str, ...]
    old_run_path: tuple[str, ...]
    glibc: tuple[int, ...]


def is_elf(path: Path) -> bool:
    """Whether a regular file starts like an ELF file."""
    with path.open("rb") as file:
        return file.read(len(ELF_MAGIC)) == ELF_MAGIC


def read_elf(path: Path) -> ElfFacts | None:
    """Reads a file's facts; None when it isn't a well-formed ELF file.

    Offsets of a damaged one can lead anywhere, so that any error of reading them means that.
    """
    if not is_elf(path):
        return None
    try:
        with path.open("rb") as file:
            return _facts(ELFFile(file))
    except _DAMAGED:
        return None


def _facts(elf: ELFFile) -> ElfFacts:
    dynamic = next((s for s in elf.iter_sections() if isinstance(s, DynamicSection)), None)
    needed: list[str] = []
    soname: list[str] = []
    run_path: list[str] = []
    old_run_path: list[str] = []
    tags: Iterable[Any] = dynamic.iter_tags() if dynamic is not None else ()
    for tag in tags:
        if tag.entry.d_tag == "DT_NEEDED":
            needed.append(tag.needed)
        elif tag.entry.d_tag == "DT_SONAME":
            soname.append(tag.soname)
        elif tag.entry.d_tag == "DT_RUNPATH":
            run_path = tag.runpath.split(":")
        elif tag.entry.d_tag == "DT_RPATH":
            old_run_path = tag.rpath.split(":")
    return ElfFacts(
        kind=elf.header.e_type,
        interpreter=_interpreter(elf),
        needed=tuple(needed),
        soname=tuple(soname),
        run_path=tuple(run_path),
        old_run_path=tuple(old_run_path),
        glibc=max(_glibc_versions(elf), default=(0, 0)),
    )


def _interpreter(elf: ELFFile) -> str | None:
    for segment in elf.iter_segments():
        if isinstance(segment, InterpSegment):
            return str(segment.get_interp_name())
    return None


def _glibc_versions(elf: ELFFile) -> list[tuple[int, ...]]:
    versions: list[tuple[int, ...]] = []
    for section in elf.iter_sections():
        if isinstance(section, GNUVerNeedSection):
            for _, auxiliaries in section.iter_versions():
                versions.extend(_parse_glibc(auxiliary) for auxiliary in auxiliaries)
    return versions


def _parse_glibc(auxiliary: Any) -> tuple[int, ...]:
    prefix, _, number = auxiliary.name.partition("_")
    parts = number.split(".")
    if prefix != "GLIBC" or not all(part.isdigit() for part in parts):
        return (0, 0)
    return tuple(int(part) for part in parts)


@dataclass(frozen=True, slots=True)
class RunPathSpot:
    """Where a file says its run path, as offsets into the file in bytes.

    Attributes:
        tag_offset: of the eight bytes that say DT_RUNPATH or DT_RPATH.
        text_offset: of the text.
        length: of the text.
    """

    tag_offset: int
    text_offset: int
    length: int


def run_path_spot(path: Path) -> RunPathSpot | None:
    """Finds a 64-bit file's DT_RUNPATH or DT_RPATH; None when it has neither."""
    with path.open("rb") as file:
        elf = ELFFile(file)
        for section in elf.iter_sections():
            if not isinstance(section, DynamicSection):
                continue
            strings: Any = elf.get_section(section["sh_link"])
            for index, tag in enumerate(section.iter_tags()):
                if tag.entry.d_tag in ("DT_RUNPATH", "DT_RPATH"):
                    text = strings.get_string(tag.entry.d_val)
                    return RunPathSpot(
                        tag_offset=section["sh_offset"] + index * DYNAMIC_ENTRY_BYTES,
                        text_offset=strings["sh_offset"] + tag.entry.d_val,
                        length=len(text.encode()),
                    )
    return None
