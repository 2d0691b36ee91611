"""Which class of CPU this is, as far as onnxruntime's blocked convolutions depend on it.

Weights that were rearranged for blocks of 16 channels (AVX-512) mean nothing on
a CPU whose kernels work on blocks of 8, so a bundle optimised for one class must
not run on the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from numpy._core._multiarray_umath import (  # type: ignore[import-not-found]
    __cpu_features__,
)

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


def cpu_problems(
    told: str | None = None, features: Mapping[str, bool] = __cpu_features__
) -> dict[str, str]:
    """Gives `insecure_cpu_class` with what was found, where the CPU isn't what it is said to be.

    In an enclave the text and CPUID are the host's word, but XGETBV is the hardware's: it says
    which registers there are, and whoever looks for AVX-512 asks for both.

    Args:
        told: the class by /proc/cpuinfo; None to read it.
        features: what CPUID and XGETBV say, as numpy has found out for its own kernels.
    """
    told = told or this_cpu()
    runs = "x86-64-avx512" if features.get("AVX512F") else "x86-64"
    if told == runs:
        return {}
    return {
        "insecure_cpu_class": f"the CPU is of the class {told} by /proc/cpuinfo, but {runs} by "
        "CPUID and XGETBV; bundles for one class give wrong results on the other"
    }
