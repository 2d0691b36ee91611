"""A request's body as it lies in memory, and room for what it is decoded into."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from flask import request
from werkzeug.http import parse_options_header

from app.errors import BusyError, CancelledError, InputError, PayloadTooLargeError
from app.limits import DECODING_WAIT_S, MAX_DECODED_BYTES, MIB, SMALL_BYTES
from app.serving.accounts import Accounts
from app.serving.pool import Pool

_LOOK_S: Final = 0.05
"""How often a request that waits for room looks whether its client still does."""

_MAX_PARTS: Final = 8
_MAX_PART_HEAD_BYTES: Final = 4096


@dataclass(slots=True, eq=False)
class Share:
    """What one request has of the room: so much of whose part."""

    client: str
    size_bytes: int


class DecodedRoom:
    """Memory for what requests are decoded into and answers are written in, shared by clients.

    A request's share is as large as its decoding may become, so the largest are decoded one after
    another, and small ones beside them. Whoever waits is let in by its client's standing. A client
    that holds nothing gets whatever is there; one that does, no more than is left for others.

    A request never waits while it has a share, so none waits for another that waits.

    Args:
        accounts: whose request goes next.
        capacity_bytes: whatever needs more gets all of it.
        wait_s: how long a request waits.
    """

    def __init__(
        self,
        accounts: Accounts,
        capacity_bytes: int = MAX_DECODED_BYTES,
        wait_s: float = DECODING_WAIT_S,
    ) -> None:
        self._accounts = accounts
        self._capacity_bytes = capacity_bytes
        self._wait_s = wait_s
        self._changed = threading.Condition()
        self._waiting: list[Share] = []  # in the order of their arrival
        self._held = Pool(capacity_bytes)

    @contextmanager
    def hold(
        self, client: str, size_bytes: int, gone: Callable[[], bool] = lambda: False
    ) -> Iterator[Share]:
        """Has a share while the block runs; waits for it first. Small ones are there at once.

        Raises:
            CancelledError: nobody waits for the answer any more, which `gone` says.
            BusyError: others' requests took too long.
        """
        is_small = size_bytes <= SMALL_BYTES
        share = Share(client, 0 if is_small else min(size_bytes, self._capacity_bytes))
        if not is_small:
            self._wait(share, gone)
        try:
            yield share
        finally:
            self.shrink(share, 0)

    def shrink(self, share: Share, size_bytes: int) -> None:
        """Gives back what is beyond `size_bytes`."""
        with self._changed:
            surplus_bytes = max(0, share.size_bytes - size_bytes)
            share.size_bytes -= surplus_bytes
            self._held.give_back(share.client, surplus_bytes)
            self._changed.notify_all()

    def _wait(self, share: Share, gone: Callable[[], bool]) -> None:
        end = time.monotonic() + self._wait_s
        with self._changed:
            self._waiting.append(share)
            try:
                while self._next() is not share:
                    self._changed.wait(_LOOK_S)
                    if gone():
                        raise CancelledError(0)
                    if time.monotonic() >= end:
                        raise BusyError("other requests are being decoded; try again")
                self._held.add(share.client, share.size_bytes)
            finally:
                self._waiting.remove(share)
                self._changed.notify_all()

    def _next(self) -> Share | None:
        """Gives who is let in now; a large one that is first keeps smaller ones from passing it."""
        able = [
            share
            for share in self._waiting
            if not self._held.holds(share.client)
            or self._held.has_room(share.client, share.size_bytes)
        ]
        if not able:
            return None
        first = min(able, key=lambda share: self._accounts.standing(share.client))
        return first if self._held.used + first.size_bytes <= self._capacity_bytes else None


def read_body(most_bytes: int, what: str) -> bytes:
    """Gives the request's body; nothing is copied where the transport has it in memory.

    Raises:
        PayloadTooLargeError: the declared size is beyond the bound of `what`; nothing was read.
    """
    size = request.content_length or 0
    if size > most_bytes:
        raise PayloadTooLargeError(f"the body has {size} bytes, {what} at most {most_bytes}")
    return bytes(request.environ["wsgi.input"].read(size))  # not a copy of what is bytes


def form_file(body: bytes, boundary: str, field: str) -> memoryview:
    """Finds the file of a field in a multipart/form-data body, RFC 7578, without a copy of it.

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
