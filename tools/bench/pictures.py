"""Pictures that clients send: an ordinary large one, and one that is dear to decode."""

from __future__ import annotations

import functools
import io
from typing import Final

import numpy as np
from PIL import Image

SCANS: Final = 10
LARGEST_SIDE: Final = 4000
"""A picture within 16 million pixels, and as many scans as the server decodes of it."""

_SIDE: Final = 500
_SCAN: Final = b"\xff\xda"
_END: Final = b"\xff\xd9"


def noisy() -> bytes:
    """Makes a PNG that compresses badly: 500 × 500 pixels in 750 KB."""
    pixels = np.random.default_rng(0).integers(0, 256, (_SIDE, _SIDE, 3), np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


@functools.cache
def progressive(side: int = LARGEST_SIDE, scans: int = SCANS) -> bytes:
    """Makes a grey progressive JPEG whose last scan comes again and again.

    Args:
        side: of the square, in pixels.
        scans: passes over all pixels, of which one more takes some ten bytes.
    """
    content = io.BytesIO()
    Image.new("L", (side, side), 128).save(content, "JPEG", progressive=True, quality=50)
    whole = content.getvalue()
    last, end = whole.rfind(_SCAN), whole.rfind(_END)
    missing = scans - whole.count(_SCAN)
    return whole[:end] + whole[last:end] * missing + whole[end:]
