"""Sizes in bytes as people write them: 85MiB."""

from __future__ import annotations

import re
from argparse import ArgumentTypeError

from app.manifest import MAX_OBJECT_BYTES

_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def parse_size(text: str) -> int:
    """Reads a size with its unit.

    Raises:
        ArgumentTypeError: without a unit, or when the size isn't above 0.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(B|KiB|MiB|GiB)", text)
    if not match:
        raise ArgumentTypeError(
            f"expected a size with its unit, one of {', '.join(_UNITS)}, as in 85MiB; got {text!r}"
        )
    size = round(float(match[1]) * _UNITS[match[2]])
    if not 0 < size <= MAX_OBJECT_BYTES:
        raise ArgumentTypeError(
            f"expected a size above 0 and at most {format_size(MAX_OBJECT_BYTES)}, got {text!r}"
        )
    return size


def format_size(size_bytes: int) -> str:
    """Writes a size with the largest unit that leaves it at 1 or above."""
    for unit in ("GiB", "MiB", "KiB"):
        if size_bytes >= _UNITS[unit]:
            size = size_bytes / _UNITS[unit]
            return f"{size:.1f} {unit}" if size < 100 else f"{size:.0f} {unit}"
    return f"{size_bytes} B"
