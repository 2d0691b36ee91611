from __future__ import annotations

import gzip
import tracemalloc
import zlib
from collections.abc import Callable

import pytest

from app.errors import InputError, PayloadTooLargeError, UnsupportedMediaError
from app.limits import MIB
from app.server.oip.compression import inflate

TEXT = b"tensor " * 1000
PACK: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress}


@pytest.mark.parametrize(
    ("encoding", "raw"),
    [
        ("gzip", gzip.compress(TEXT)),
        ("GZIP ", gzip.compress(TEXT)),
        ("deflate", zlib.compress(TEXT)),
        ("identity", TEXT),
    ],
)
def test_inflate(encoding: str, raw: bytes) -> None:
    assert inflate(raw, encoding, len(TEXT)) == TEXT


@pytest.mark.parametrize(
    ("encoding", "raw", "kind", "said"),
    [
        ("br", b"", UnsupportedMediaError, "expected gzip, deflate or identity, got 'br'"),
        ("gzip, gzip", b"", UnsupportedMediaError, "expected gzip"),
        ("gzip", b"", InputError, "cut off"),
        ("gzip", TEXT, InputError, "isn't gzip"),
        ("gzip", gzip.compress(TEXT)[:-1], InputError, "cut off"),
        ("gzip", gzip.compress(TEXT) + b"x", InputError, "1 bytes follow"),
        ("gzip", gzip.compress(TEXT) * 2, InputError, "follow"),
        ("gzip", gzip.compress(TEXT)[:-8] + bytes(8), InputError, "broken"),
        ("deflate", gzip.compress(TEXT), InputError, "isn't deflate"),
        ("deflate", zlib.compress(TEXT)[2:-4], InputError, "isn't deflate"),
        ("gzip", gzip.compress(TEXT + b"x"), PayloadTooLargeError, "more than 7000 bytes"),
    ],
)
def test_body_that_is_not_what_it_says(
    encoding: str, raw: bytes, kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind, match=said):
        inflate(raw, encoding, len(TEXT))


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@pytest.mark.parametrize("size", [0, 1, 65_536, 4 * MIB, 4 * MIB + 1, 9 * MIB])
@pytest.mark.parametrize("text", [b"\0", b"seven b", bytes(range(256))])
def test_every_size_comes_back_as_it_was(encoding: str, size: int, text: bytes) -> None:
    whole = (text * (size // len(text) + 1))[:size]
    assert inflate(PACK[encoding](whole), encoding, size) == whole
    with pytest.raises(PayloadTooLargeError):
        inflate(PACK[encoding](whole + b"x"), encoding, size)


@pytest.mark.parametrize("following", [1, 20_000])
def test_what_follows_is_counted(following: int) -> None:
    with pytest.raises(InputError, match=f"^{following} bytes follow"):
        inflate(gzip.compress(TEXT) + bytes(following), "gzip", len(TEXT))


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_bomb_takes_no_more_than_the_bound(encoding: str) -> None:
    bomb = PACK[encoding](bytes(64 * MIB))
    assert len(bomb) < MIB
    tracemalloc.start()
    try:
        with pytest.raises(PayloadTooLargeError):
            inflate(bomb, encoding, 8 * MIB)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 10 * MIB, "an eighth more, as it grows"


def test_what_is_inflated_is_not_copied() -> None:
    packed = zlib.compress(bytes(64 * MIB))
    tracemalloc.start()
    try:
        assert len(inflate(packed, "deflate", 64 * MIB)) == 64 * MIB
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 80 * MIB
