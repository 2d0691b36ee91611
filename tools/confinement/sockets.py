"""Takes the network from a process, held by the kernel: a filter of system calls.

Source: seccomp(2), and include/uapi/linux/{seccomp,filter,audit}.h of Linux.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import socket
import struct
from collections.abc import Mapping
from typing import Final

_NUMBERS: Final[Mapping[str, tuple[int, int]]] = {
    "x86_64": (0xC000003E, 41),
    "aarch64": (0xC00000B7, 198),
}
"""By machine: what the kernel calls the architecture, and the number of socket(2)."""

_IO_URING_SETUP: Final = 425
"""It makes sockets too, past every filter."""

_X32: Final = 0x40000000
"""Calls of another interface of x86_64, with numbers of its own."""

_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ARCHITECTURE, _NUMBER, _FIRST_ARGUMENT = 4, 0, 16
"""Offsets in struct seccomp_data."""

_ALLOW: Final = 0x7FFF0000
_REFUSE: Final = 0x00050000 | errno.EACCES

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _MODE_FILTER = 38, 22, 2


def can_forbid() -> bool:
    """Says whether this machine's system calls are known here."""
    return platform.machine() in _NUMBERS


def forbid_network() -> None:
    """Lets this thread and what it starts make no sockets but those of this machine's own files.

    Raises:
        OSError: when the kernel refuses.
    """
    architecture, socket_number = _NUMBERS[platform.machine()]
    program = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 0, 6, architecture),
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 4, 0, _X32),
        (_EQUAL, 3, 0, _IO_URING_SETUP),
        (_EQUAL, 0, 3, socket_number),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        (_EQUAL, 1, 0, socket.AF_UNIX),
        (_RETURN, 0, 0, _REFUSE),
        (_RETURN, 0, 0, _ALLOW),
    ]
    content = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
    instructions = ctypes.create_string_buffer(content, len(content))
    described = struct.pack("HxxxxxxP", len(program), ctypes.addressof(instructions))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in (
        (_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        (_PR_SET_SECCOMP, _MODE_FILTER, described, 0, 0),
    ):
        if libc.prctl(*arguments) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"seccomp: {os.strerror(number)}")
