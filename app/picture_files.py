"""What of a PNG or JPEG file its pixels need, found without decoding any.

A decoder gets these parts and nothing else: no text, no EXIF, no colour profile,
no preview and no animation, each of which is a format of its own with bombs of
its own. Sources: https://www.w3.org/TR/png-3/ and ITU-T T.81 (JPEG).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from app.errors import PayloadTooLargeError, UnsupportedMediaError
from app.limits import MAX_PICTURE_PIXELS, MAX_PICTURE_SEGMENTS, MAX_SCANNED_PIXELS, MAX_SCANS, MIB

_PNG: Final = b"\x89PNG\r\n\x1a\n"
_PNG_PARTS: Final = (b"PLTE", b"tRNS", b"IDAT", b"IEND")
_PNG_FRAME_BYTES: Final = 12
"""Of a chunk beside its content: length, type, checksum."""

_JPEG: Final = b"\xff\xd8"
_MARKER: Final = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
"""Not a zero, which stands for 0xFF in data, nor a restart, which belongs to a scan."""
_FRAMES: Final = frozenset({0xC0, 0xC1, 0xC2})
"""Baseline, extended and progressive, with Huffman codes."""
_TABLES: Final = frozenset({0xC4, 0xDB, 0xDD, 0xE0, 0xEE})
"""Codes, quantisation, restarts; JFIF and Adobe, which say what the colours are."""
_SCAN: Final = 0xDA
_END: Final = 0xD9
_SKIPPED: Final = frozenset({*range(0xE0, 0xF0), 0xFE})
"""Further application segments and comments."""

_SEARCHED_BYTES: Final = MIB
"""What is searched at a time: other threads run in between."""


@dataclass(frozen=True, slots=True)
class PictureFile:
    """A file that may be decoded.

    Attributes:
        width, height: in pixels, within `MAX_PICTURE_PIXELS`.
        pixel_bytes: most bytes of memory that decoding and converting take for each of them.
        parts: what the decoder needs, in order; views of the file.
    """

    width: int
    height: int
    pixel_bytes: int
    parts: tuple[memoryview, ...]

    @property
    def decoding_bytes(self) -> int:
        """Most bytes of memory that decoding takes."""
        return self.width * self.height * self.pixel_bytes + sum(map(len, self.parts))


def read_picture_file(raw: bytes | memoryview) -> PictureFile:
    """Finds a picture's size and the parts that its pixels need.

    Raises:
        UnsupportedMediaError: it is no PNG or JPEG, is broken, or of a kind that isn't decoded.
        PayloadTooLargeError: it has too many pixels, scans or segments.
    """
    view = memoryview(raw)
    if bytes(view[: len(_PNG)]) == _PNG:
        return _read_png(view)
    if bytes(view[: len(_JPEG)]) == _JPEG:
        return _read_jpeg(view)
    raise UnsupportedMediaError("expected a PNG or JPEG picture")


def broken() -> UnsupportedMediaError:
    """Makes the error for a file that can't be decoded."""
    return UnsupportedMediaError("the picture is broken or cut off")


def _read_png(view: memoryview) -> PictureFile:
    chunks = _chunks(view)
    kind, header = next(chunks)
    if kind != b"IHDR" or len(header) != _PNG_FRAME_BYTES + 13:
        raise broken()
    size = int.from_bytes(header[8:12], "big"), int.from_bytes(header[12:16], "big")
    _check_size(*size)
    parts = [view[: len(_PNG)], header]
    for kind, chunk in chunks:
        if kind == b"IHDR":
            raise broken()
        if kind in _PNG_PARTS:
            parts.append(chunk)
    # As RGBA, as it was stored, and what becomes of it.
    return PictureFile(*size, 12, tuple(parts))


def _chunks(view: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    place = len(_PNG)
    for _ in range(MAX_PICTURE_SEGMENTS):
        end = place + _PNG_FRAME_BYTES + int.from_bytes(view[place : place + 4], "big")
        if end > len(view):
            raise broken()
        kind = bytes(view[place + 4 : place + 8])
        yield kind, view[place:end]
        if kind == b"IEND":
            return
        place = end
    raise _too_many_segments()


def _read_jpeg(view: memoryview) -> PictureFile:
    parts = [view[: len(_JPEG)]]
    size, components, scans = (0, 0), 0, 0
    for code, segment in _segments(view):
        if code in _FRAMES:
            if components or len(segment) < 11:
                raise broken()
            size = int.from_bytes(segment[7:9], "big"), int.from_bytes(segment[5:7], "big")
            components = segment[9]
            _check_size(*size)
        elif code == _SCAN:
            scans += 1
            _check_scans(scans, *size)
        elif code not in _TABLES and code != _END:
            continue
        parts.append(segment)
    # Several scans are collected as coefficients of two bytes before there are pixels.
    pixel_bytes = 8 + (2 * components if scans > 1 else 0)
    return PictureFile(*size, pixel_bytes, tuple(parts))


def _segments(view: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Gives segments by their markers' codes; that of a scan with all of its data."""
    place = len(_JPEG)
    for _ in range(MAX_PICTURE_SEGMENTS):
        place = _next_marker(view, place)
        code = view[place + 1]
        if code == _END:
            yield code, view[place : place + 2]
            return
        end = place + 2 + int.from_bytes(view[place + 2 : place + 4], "big")
        if end > len(view) or end < place + 4:
            raise broken()
        if code not in _FRAMES | _TABLES | _SKIPPED | {_SCAN}:
            raise UnsupportedMediaError(
                f"the JPEG has a segment 0xFF{code:02X}, which isn't decoded; save it as a "
                "baseline JPEG"
            )
        if code == _SCAN:
            end = _next_marker(view, end)
        yield code, view[place:end]
        place = end
    raise _too_many_segments()


def _next_marker(view: memoryview, place: int) -> int:
    while place < len(view):
        match = _MARKER.search(view, place, place + _SEARCHED_BYTES + 1)
        if match is not None:
            return match.start()
        place += _SEARCHED_BYTES
    raise broken()


def _check_size(width: int, height: int) -> None:
    if not width or not height:
        raise broken()
    if width * height > MAX_PICTURE_PIXELS:
        raise PayloadTooLargeError(
            f"the picture has {width} × {height} pixels, at most {MAX_PICTURE_PIXELS} are allowed"
        )


def _check_scans(scans: int, width: int, height: int) -> None:
    """Bounds the work on a JPEG: 30 bytes can be one more pass over all its pixels."""
    if scans > MAX_SCANS or scans * width * height > MAX_SCANNED_PIXELS:
        raise PayloadTooLargeError(
            f"the picture has {scans} scans of {width} × {height} pixels and more, at most "
            f"{MAX_SCANS} scans and {MAX_SCANNED_PIXELS} pixels in all of them are decoded; save "
            "it without progressive scans"
        )


def _too_many_segments() -> PayloadTooLargeError:
    return PayloadTooLargeError(
        f"the picture's file has more than {MAX_PICTURE_SEGMENTS} parts; save it again"
    )
