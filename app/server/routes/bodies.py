"""A request's body as it lies in memory, and room for what it is decoded into."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from flask import request
from werkzeug.http import parse_options_header

from app.errors import BusyError, CancelledError, InputError, PayloadTooLargeError
from app.limits import DECODING_WAIT_S, MAX_DECODED_BYTES, MIB, SMALL_BYTES

_LOOK_S: Final = 0.05
"""How often a request that waits for room looks whether its client still does."""

_MAX_PARTS: Final = 8
_MAX_PART_HEAD_BYTES: Final = 4096


class Share:
    """What one request has of the room."""

    def __init__(self, room: DecodedRoom, tenant: str, size_bytes: int) -> None:
        self._room = room
        self.tenant = tenant
        self.size_bytes = size_bytes

    def shrink(self, size_bytes: int) -> None:
        """Gives back what is beyond `size_bytes`."""
        self._room.give_back(self, max(0, self.size_bytes - size_bytes))


class DecodedRoom:
    """Memory for what requests are decoded into and answers are written in, shared by tenants.

    A request's share is as large as its decoding may become, so the largest are decoded one after
    another, and small ones beside them. Whoever waits is let in by how little its tenant was given
    since it came. A tenant with several requests has at most half of the room.

    A request never waits while it has a share, so none waits for another that waits.

    Args:
        capacity_bytes: whatever needs more gets all of it.
        wait_s: how long a request waits.
        clock: monotonic, in seconds.
    """

    def __init__(
        self,
        capacity_bytes: int = MAX_DECODED_BYTES,
        wait_s: float = DECODING_WAIT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._capacity_bytes = capacity_bytes
        self._wait_s = wait_s
        self._clock = clock
        self._changed = threading.Condition()
        self._waiting: list[Share] = []  # in the order of their arrival
        self._held_bytes: dict[str, int] = {}  # by tenant
        self._given_bytes: dict[str, int] = {}  # by tenant, since it has something here

    @contextmanager
    def hold(
        self, tenant: str, size_bytes: int, gone: Callable[[], bool] = lambda: False
    ) -> Iterator[Share]:
        """Has a share while the block runs; waits for it first. Small ones are there at once.

        Args:
            tenant: whose request it is.
            size_bytes: most that its decoding takes.
            gone: whether nobody waits for the answer any more.

        Raises:
            CancelledError: nobody waits.
            BusyError: others' requests took too long.
        """
        is_small = size_bytes <= SMALL_BYTES
        share = Share(self, tenant, 0 if is_small else min(size_bytes, self._capacity_bytes))
        if not is_small:
            self._wait(share, gone)
        try:
            yield share
        finally:
            self.give_back(share, share.size_bytes)

    def give_back(self, share: Share, size_bytes: int) -> None:
        """Takes a part of a share away."""
        if not size_bytes:
            return
        with self._changed:
            share.size_bytes -= size_bytes
            self._held_bytes[share.tenant] -= size_bytes
            self._forget(share.tenant)
            self._changed.notify_all()

    def _wait(self, share: Share, gone: Callable[[], bool]) -> None:
        tenant = share.tenant
        end = self._clock() + self._wait_s
        with self._changed:
            if tenant not in self._held_bytes:
                # It comes level with whoever has had least, what is still held left out.
                spent = (
                    given - self._held_bytes[other] for other, given in self._given_bytes.items()
                )
                self._given_bytes[tenant] = min(spent, default=0)
                self._held_bytes[tenant] = 0
            self._waiting.append(share)
            try:
                while self._next() is not share:
                    self._changed.wait(_LOOK_S)
                    if gone():
                        raise CancelledError(0)
                    if self._clock() >= end:
                        raise BusyError("other requests are being decoded; try again")
                self._held_bytes[tenant] += share.size_bytes
                self._given_bytes[tenant] += share.size_bytes
            finally:
                self._waiting.remove(share)
                self._forget(tenant)
                self._changed.notify_all()

    def _next(self) -> Share | None:
        """Gives who is let in now, if there is room."""
        half = self._capacity_bytes // 2
        able = [
            share
            for share in self._waiting
            if (held := self._held_bytes[share.tenant]) == 0 or held + share.size_bytes <= half
        ]
        if not able:
            return None
        first = min(
            able,
            key=lambda share: (self._given_bytes[share.tenant], self._held_bytes[share.tenant]),
        )
        used = sum(self._held_bytes.values())
        return first if used + first.size_bytes <= self._capacity_bytes else None

    def _forget(self, tenant: str) -> None:
        if not self._held_bytes[tenant] and all(share.tenant != tenant for share in self._waiting):
            del self._held_bytes[tenant], self._given_bytes[tenant]


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


def form_file(body: bytes, boundary: str, field: str) -> memoryview:
    """Finds a file in a multipart/form-data body, RFC 7578, without a copy of it.

    Args:
        body: whole.
        boundary: from the content type.
        field: the name of the form's field.

    Raises:
        InputError: it isn't there, or the body isn't such a form.
    """
    missing = InputError(f"the form has no file in a field {field!r}; send -F {field}=@FILE")
    name = re.escape(boundary.encode("latin-1", "replace"))
    opening = re.compile(rb"--%b[ \t]{0,64}\r\n" % name).search(body, 0, _MAX_PART_HEAD_BYTES)
    delimiter = re.compile(rb"\r\n--%b(--|[ \t]{0,64}\r\n)" % name)
    if not boundary or opening is None:
        raise missing
    start = opening.end()
    for _ in range(_MAX_PARTS):
        head_end = body.find(b"\r\n\r\n", start, start + _MAX_PART_HEAD_BYTES)
        closing = _search(delimiter, body, head_end + 2) if head_end >= 0 else None
        if closing is None:
            raise missing
        if _is_file(body[start:head_end].decode("latin-1"), field):
            return memoryview(body)[head_end + 4 : max(closing.start(), head_end + 4)]
        if closing[1] == b"--":
            raise missing
        start = closing.end()
    raise PayloadTooLargeError(f"the form has more than {_MAX_PARTS} parts")


def _search(pattern: re.Pattern[bytes], body: bytes, start: int) -> re.Match[bytes] | None:
    """Searches a little at a time; other threads run in between."""
    for place in range(start, len(body), MIB):
        if match := pattern.search(body, place, place + MIB + _MAX_PART_HEAD_BYTES):
            return match
    return None


def _is_file(head: str, field: str) -> bool:
    for line in head.split("\r\n"):
        name, _, value = line.partition(":")
        if name.strip().lower() == "content-disposition":
            _, options = parse_options_header(value.strip())
            return options.get("name") == field and "filename" in options
    return False
