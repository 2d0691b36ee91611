"""Sizes as Occlum.json writes them: a whole number and B, KB, MB, GB or TB, 1024-based."""

from __future__ import annotations

import re

from app.limits import KIB, MIB

PAGE_BYTES = 4096
"""Occlum's sizes are whole pages."""

_UNITS = {"B": 1, "KB": KIB, "MB": MIB, "GB": KIB * MIB, "TB": MIB * MIB}
_SIZE = re.compile(r"([0-9]{1,15})(B|KB|MB|GB|TB)")


def parse_size(text: object) -> int:
    """Reads a size, in bytes.

    Raises:
        ValueError: it isn't written as Occlum reads it; the message says how.
    """
    match = _SIZE.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f'{text!r} isn\'t a size; write a whole number and a unit, as in "640MB"')
    return int(match[1]) * _UNITS[match[2]]


def format_size(size_bytes: int) -> str:
    """Writes a size in whole MB, rounded up."""
    return f"{-(-size_bytes // MIB)}MB"
