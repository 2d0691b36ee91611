"""A request's body as it lies in memory, and what of it may be decoded at the same time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from flask import request

from app.errors import PayloadTooLargeError
from app.limits import KIB, MAX_DECODED_BYTES

_SMALL_BYTES: Final = 64 * KIB
"""Bodies that are decoded at any time: a worker's share of memory stays below 2 MiB."""


class DecodingTurn:
    """Lets one large body be decoded at a time: it takes many times its size in memory."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    @contextmanager
    def wait(self, size_bytes: int) -> Iterator[None]:
        """Holds the turn while the block runs; small bodies need none."""
        if size_bytes <= _SMALL_BYTES:
            yield
            return
        with self._lock:
            yield


class DecodedRoom:
    """Memory for what requests are decoded into beside their bodies: one bound for all of them.

    A request reserves once, so none waits for another that waits.

    Args:
        capacity_bytes: at least what the largest request reserves.
    """

    def __init__(self, capacity_bytes: int = MAX_DECODED_BYTES) -> None:
        self._capacity_bytes = capacity_bytes
        self._used_bytes = 0
        self._freed = threading.Condition()

    @contextmanager
    def hold(self, size_bytes: int) -> Iterator[None]:
        """Reserves room while the block runs; waits for it first. Small requests need none."""
        if size_bytes <= _SMALL_BYTES:
            yield
            return
        size_bytes = min(size_bytes, self._capacity_bytes)
        with self._freed:
            self._freed.wait_for(lambda: self._used_bytes + size_bytes <= self._capacity_bytes)
            self._used_bytes += size_bytes
        try:
            yield
        finally:
            with self._freed:
                self._used_bytes -= size_bytes
                self._freed.notify_all()


def read_body(most_bytes: int, what: str) -> bytes:
    """Gives the request's body; nothing is copied where the transport has it in memory.

    Args:
        most_bytes: the bound, checked before anything is read.
        what: names the kind of body in the message.

    Raises:
        PayloadTooLargeError: the declared size is beyond it.
    """
    size = request.content_length or 0
    if size > most_bytes:
        raise PayloadTooLargeError(f"the body has {size} bytes, {what} at most {most_bytes}")
    body: bytes = request.environ["wsgi.input"].read(size)
    return body
