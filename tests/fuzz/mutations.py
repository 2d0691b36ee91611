"""Changes to an input that keep most of its form: words and values change places, bytes flip."""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random
from typing import Final

_TOKEN: Final = re.compile(rb'"[^"\r\n]*"|-?[0-9][0-9.eE+-]*|[A-Za-z][A-Za-z0-9_/-]*')
_VALUES: Final = (
    *(
        b"null",
        b"true",
        b"[]",
        b"{}",
        b'""',
        b'"\\ud800"',
        b'"\\u0000"',
        b'"n"',
        b'"shared_memory"',
    ),
    *(b"0", b"-1", b"1e999", b"1.5", b"1e38", b"1099511627776", b"18446744073709551616"),
    *(b"9" * 400, b"9" * 5000, b"[" * 2000, b"[[[1]]]", b'{"a":{}}', b'"' + b"a" * 3000 + b'"'),
)
_BYTES: Final = (b"\0", b"\xff", b"\r\n", b"\n", b" ", b"\r\n\r\n", b'"', b",", b"\xed\xa0\x80")


def mutated(raw: bytes, random: Random) -> bytes:
    """Gives an input with one to four changes."""
    for _ in range(random.randint(1, 4)):
        raw = random.choice(_CHANGES)(raw, random)
    return raw


def _new_value(raw: bytes, random: Random) -> bytes:
    start, end = _token(raw, random)
    return raw[:start] + random.choice(_VALUES) + raw[end:]


def _moved_value(raw: bytes, random: Random) -> bytes:
    start, end = _token(raw, random)
    first, last = _token(raw, random)
    return raw[:start] + raw[first:last] + raw[end:]


def _near_number(raw: bytes, random: Random) -> bytes:
    start, end = _token(raw, random)
    if not raw[start:end].isdigit() or end - start > 20:
        return _new_value(raw, random)
    return raw[:start] + str(int(raw[start:end]) + random.randint(-2, 2)).encode() + raw[end:]


def _token(raw: bytes, random: Random) -> tuple[int, int]:
    places = [match.span() for match in _TOKEN.finditer(raw)]
    return random.choice(places) if places else (0, 0)


def _flip(raw: bytes, random: Random) -> bytes:
    if not raw:
        return b"a"
    changed = bytearray(raw)
    changed[random.randrange(len(raw))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _cut(raw: bytes, random: Random) -> bytes:
    start, end = _span(raw, random)
    return raw[:start] + raw[end:]


def _again(raw: bytes, random: Random) -> bytes:
    start, end = _span(raw, random)
    return raw[:end] + raw[start:]


def _insert(raw: bytes, random: Random) -> bytes:
    place = random.randint(0, len(raw))
    return raw[:place] + random.choice(_BYTES) + raw[place:]


def _span(raw: bytes, random: Random) -> tuple[int, int]:
    start = random.randint(0, len(raw))
    return start, min(len(raw), start + random.choice((1, 4, 64, 4096)))


_CHANGES: Final[tuple[Callable[[bytes, Random], bytes], ...]] = (
    *(_new_value, _moved_value, _near_number),
    *(_flip, _cut, _again, _insert),
)
