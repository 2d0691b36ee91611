"""Which class of CPU this is, as far as onnxruntime's blocked convolutions depend on it.

Weights that were rearranged for blocks of 16 channels (AVX-512) mean nothing on
a CPU whose kernels work on blocks of 8, so a bundle optimised for one class must
not run on the other.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

ANY: Final = "any"
CLASSES: Final = (ANY, "x86-64", "x86-64-avx512")
_CPUINFO: Final = Path("/proc/cpuinfo")


def cpu_class(cpuinfo: str) -> str:
    """Gives the class of the CPU that a text from /proc/cpuinfo describes.

    Args:
        cpuinfo: its text; in Occlum a copy of the host's, so a lie makes results wrong, not known.
    """
    flags: set[str] = set()
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "flags":
            flags = set(value.split())
            break
    return "x86-64-avx512" if "avx512f" in flags else "x86-64"


def this_cpu() -> str:
    """Gives the class of the CPU that this process runs on."""
    return cpu_class(_CPUINFO.read_text(encoding="ascii", errors="replace"))
