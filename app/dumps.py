"""Keeps this process's memory out of core dumps and from debuggers of the same user."""

from __future__ import annotations

import ctypes
import resource
from contextlib import suppress
from typing import Final

PR_SET_DUMPABLE: Final = 4
"""Of Linux's prctl(2): with 0 there is no core dump, and only root may read the memory."""


def forbid_dumps() -> None:
    """Sets the size of core dumps to 0 and makes the process one that isn't dumped.

    Occlum knows no PR_SET_DUMPABLE and answers EINVAL. There the kernel has nothing to dump: the
    memory is the enclave's. So a refusal is no error.
    """
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
