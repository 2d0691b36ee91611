"""gzip and deflate bodies. What comes in is inflated up to a bound, whatever it claims to be."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from typing import Final

from app.errors import InputError, PayloadTooLargeError, UnsupportedMediaError

ENCODINGS: Final[Mapping[str, int]] = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
"""Content codings and zlib's name of their format; RFC 9110 §8.4.1.2: deflate has a zlib header."""

_LEVEL: Final = 1
"""Tensors hardly shrink further at higher levels, which take many times as long."""


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
    stream = zlib.decompressobj(ENCODINGS[name])
    try:
        found = stream.decompress(raw, most_bytes + 1)
    except zlib.error as error:
        raise InputError(f"the body isn't {name}, or is broken") from error
    if len(found) > most_bytes:
        raise PayloadTooLargeError(f"the body inflates to more than {most_bytes} bytes")
    if not stream.eof:
        raise InputError(f"the {name} body is cut off")
    if stream.unused_data:
        raise InputError(f"{len(stream.unused_data)} bytes follow the {name} body")
    return found


def deflate(chunks: Iterable[bytes | memoryview], encoding: str) -> bytes:
    """Compresses an answer.

    Args:
        chunks: its pieces, in order.
        encoding: a key of `ENCODINGS`.
    """
    stream = zlib.compressobj(_LEVEL, zlib.DEFLATED, ENCODINGS[encoding])
    pieces = [stream.compress(chunk) for chunk in chunks]
    return b"".join([*pieces, stream.flush()])
