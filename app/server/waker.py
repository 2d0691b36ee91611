"""Wakes a selector from another thread."""

from __future__ import annotations

import selectors
import socket
from contextlib import suppress
from typing import Final

_WAKE_UPS: Final = 4096
"""Taken at a time: one byte each."""


class Waker:
    """A pair of sockets; the selector reports one of them once `wake` was called.

    Args:
        selector: watches the socket, with None as its data.
    """

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._sender, self._receiver = socket.socketpair()
        self._sender.setblocking(False)
        self._receiver.setblocking(False)
        selector.register(self._receiver, selectors.EVENT_READ, None)

    def wake(self) -> None:
        """Wakes the selector; callable from any thread and from a signal handler."""
        # Full means that the loop is about to wake up anyway; closed, that it has ended.
        with suppress(OSError):
            self._sender.send(b"\0")

    def woke(self, reported: object) -> bool:
        """Whether a file that the selector reported is this one; takes the wake-ups if so."""
        if reported is not self._receiver:
            return False
        with suppress(BlockingIOError):
            self._receiver.recv(_WAKE_UPS)
        return True

    def close(self) -> None:
        """Closes both ends."""
        self._sender.close()
        self._receiver.close()
