"""gzip and deflate bodies of requests, inflated up to a bound, whatever they claim to be.

Answers are never compressed: how well they shrink would tell who watches the line what is in them.

What becomes large is only counted at first, and inflated again into one buffer
of the right size. So a bomb takes no memory, and no megabytes are copied
together: that and asking the kernel for them would stop every other thread of
the interpreter for longer than the counting takes one.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from typing import Final

from app.errors import InputError, PayloadTooLargeError, UnsupportedMediaError
from app.limits import KIB, MIB

ENCODINGS: Final[Mapping[str, int]] = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
"""Content codings and zlib's name of their format; RFC 9110 §8.4.1.2: deflate has a zlib header."""

_READ_BYTES: Final = 16 * KIB
_STEP_BYTES: Final = 64 * KIB
"""What is inflated at a time: the C library has that much without asking the kernel."""

_KEPT_BYTES: Final = 4 * MIB
"""Most that is kept while it is counted: a JSON body, or a picture's tensor."""


def inflate(raw: bytes, encoding: str, most_bytes: int) -> bytes:
    """Decompresses a body.

    Args:
        raw: the body.
        encoding: the header `Content-Encoding`.
        most_bytes: bound on the result; nothing beyond it is made.

    Raises:
        UnsupportedMediaError: another encoding.
        PayloadTooLargeError: the result would be larger.
        InputError: broken, cut off, or followed by something.
    """
    name = encoding.strip().lower()
    if name == "identity":
        return raw
    if name not in ENCODINGS:
        raise UnsupportedMediaError(
            f"Content-Encoding: expected gzip, deflate or identity, got {encoding[:40]!r}"
        )
    try:
        return _inflate(memoryview(raw), name, most_bytes)
    except zlib.error as error:
        raise InputError(f"the body isn't {name}, or is broken") from error


def _inflate(raw: memoryview, name: str, most_bytes: int) -> bytes:
    pieces: list[bytes] = []
    size = 0
    for piece in _pieces(raw, name):
        size += len(piece)
        if size > most_bytes:
            raise PayloadTooLargeError(f"the body inflates to more than {most_bytes} bytes")
        if size > _KEPT_BYTES:
            pieces.clear()
        else:
            pieces.append(piece)
    if size > _KEPT_BYTES:
        return zlib.decompress(raw, ENCODINGS[name], size)
    return b"".join(pieces)


def _pieces(raw: memoryview, name: str) -> Iterator[bytes]:
    """Inflates a whole body a little at a time."""
    stream = zlib.decompressobj(ENCODINGS[name])
    taken = 0
    while taken < len(raw) and not stream.eof:
        rest: bytes | memoryview = raw[taken : taken + _READ_BYTES]
        taken += len(rest)
        while rest:
            yield stream.decompress(rest, _STEP_BYTES)
            rest = stream.unconsumed_tail
    if not stream.eof:
        raise InputError(f"the {name} body is cut off")
    if following := len(raw) - taken + len(stream.unused_data):
        raise InputError(f"{following} bytes follow the {name} body")
