"""What the host may hear of this process: two streams of ours, and nothing that a library says.

Libraries write to descriptors 1 and 2 by themselves: onnxruntime names values from tensors, glibc
and C++ say why they end a process, Python prints what it can't raise. The host reads both. So the
appliance keeps its own copies of them, and 0, 1 and 2 then lead nowhere.
"""

from __future__ import annotations

import os
from typing import Final, NamedTuple, TextIO

_STANDARD: Final = (0, 1, 2)


class Outlets(NamedTuple):
    """The streams that the host reads.

    Attributes:
        announcements: what a person who starts the appliance is told: the former stdout.
        log: the log, and why a start failed: the former stderr.
    """

    announcements: TextIO
    log: TextIO


def take_outlets() -> Outlets:
    """Takes stdout and stderr for the appliance alone; stdin, stdout and stderr are then nowhere.

    To be called once, before anything of a request is in memory. One that was closed stays
    unheard.
    """
    nowhere = os.open(os.devnull, os.O_RDWR)
    outlets = Outlets(_copy(1), _copy(2))
    for descriptor in _STANDARD:
        os.dup2(nowhere, descriptor)
    if nowhere not in _STANDARD:
        os.close(nowhere)
    return outlets


def _copy(descriptor: int) -> TextIO:
    try:
        own = os.dup(descriptor)
    except OSError:
        own = os.open(os.devnull, os.O_WRONLY)
    return os.fdopen(own, "w", encoding="utf-8", errors="backslashreplace", buffering=1)
