"""Runs a prepared start to its end, as `occlum run` would."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from tools.image.processes import spawn, wait_for
from tools.image.sandbox import Start
from tools.image.threads import OUT_OF_SLOTS, count_threads

POLL_S = 0.05
"""Between two looks at the number of threads: well below the time in which a pool grows."""

NO_SLOT_STATUS = 1


def supervise(start: Start, max_threads: int) -> int:
    """Starts, watches and waits.

    A signal to this process ends the app at once, as it does in Occlum: there is no graceful stop
    from outside.

    Returns:
        The app's status with its highest bit cleared, or 128 plus the number of the signal that
        ended it; minus that number when the signal came to this process.
    """
    process = spawn(start.argv, start.environment, start.pass_fds)
    for descriptor in start.pass_fds:
        os.close(descriptor)
    with _passed_on_as_kill(process.pid) as received:
        while True:
            status = wait_for(process, POLL_S)
            if status is not None:
                return _as_occlum(status) if not received else -received[0]
            if count_threads(process.pid, start.skipped_levels) > max_threads:
                process.kill()
                process.wait()
                print(OUT_OF_SLOTS, file=sys.stderr)
                return NO_SLOT_STATUS


def _as_occlum(status: int) -> int:
    if status < 0:
        return 128 - status
    # bubblewrap reports a signal as 128 plus its number, which stays as it is.
    return status if status > 128 else status & 0x7F


@contextmanager
def _passed_on_as_kill(process_id: int) -> Iterator[list[int]]:
    """While it holds, SIGTERM and SIGINT to this process kill the app; gives their numbers."""
    received: list[int] = []

    def kill(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        os.kill(process_id, signal.SIGKILL)

    old = {number: signal.signal(number, kill) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
