"""gzip and deflate bodies of requests, inflated up to a bound, whatever they claim to be.

Answers are never compressed: how well they shrink would tell who watches the line what is in them.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from io import BytesIO
from typing import Final

from app.errors import InputError, PayloadTooLargeError, UnsupportedMediaError
from app.limits import KIB

ENCODINGS: Final[Mapping[str, int]] = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
"""Content codings and zlib's name of their format; RFC 9110 §8.4.1.2: deflate has a zlib header."""

_READ_BYTES: Final = 16 * KIB
_STEP_BYTES: Final = 64 * KIB
"""What is inflated at a time: other threads run in between, and nothing beyond the bound is made
but the rest of one step."""


def inflate(raw: bytes, encoding: str, most_bytes: int) -> bytes:
    """Decompresses a body that has a header `Content-Encoding`.

    Raises:
        UnsupportedMediaError: another encoding.
        PayloadTooLargeError: the result would have more than `most_bytes`.
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
    inflated = BytesIO()  # grows in place and is given away without a copy
    taken = 0
    try:
        while taken < len(raw) and not stream.eof:
            rest: bytes | memoryview = memoryview(raw)[taken : taken + _READ_BYTES]
            taken += len(rest)
            while rest:
                inflated.write(stream.decompress(rest, _STEP_BYTES))
                if inflated.tell() > most_bytes:
                    raise PayloadTooLargeError(f"the body inflates to more than {most_bytes} bytes")
                rest = stream.unconsumed_tail
    except zlib.error as error:
        raise InputError(f"the body isn't {name}, or is broken") from error
    if not stream.eof:
        raise InputError(f"the {name} body is cut off")
    if following := len(raw) - taken + len(stream.unused_data):
        raise InputError(f"{following} bytes follow the {name} body")
    return inflated.getvalue()
