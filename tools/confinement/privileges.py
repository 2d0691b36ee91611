"""Takes from a process of the superuser's what only the superuser may do.

Such a process could read the memory of others, whatever files it may open.
Source: capabilities(7) and capget(2) of Linux.
"""

from __future__ import annotations

import ctypes
import os
import struct
from typing import Final

_VERSION: Final = 0x20080522
_KEPT: Final = 1 << 0 | 1 << 1 | 1 << 3
"""CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER: the files of others stay usable, as far as they are
within reach at all."""


def drop_privileges() -> None:
    """Keeps the rights over files; an ordinary user has none of these and loses none.

    Raises:
        OSError: when the kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    header = struct.pack("Ii", _VERSION, 0)
    held = ctypes.create_string_buffer(24)
    if libc.capget(header, held) == 0:
        effective, permitted, *_ = struct.unpack("6I", held.raw)
        kept = struct.pack("6I", effective & _KEPT, permitted & _KEPT, 0, 0, 0, 0)
        if libc.capset(header, kept) == 0:
            return
    number = ctypes.get_errno()
    raise OSError(number, f"capabilities: {os.strerror(number)}")
