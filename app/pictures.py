"""A PNG or JPEG becomes an input tensor, as the model card says."""

from __future__ import annotations

import io
import warnings
from typing import Final

import numpy as np
from PIL import Image, UnidentifiedImageError

from app.card import Preprocessing
from app.errors import PayloadTooLargeError, UnsupportedMediaError
from app.limits import MAX_PICTURE_PIXELS, MAX_SCANNED_PIXELS
from app.tensors import Array

_FORMATS: Final = ("PNG", "JPEG")
_FILTERS: Final = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


def picture_tensor(raw: bytes | memoryview, how: Preprocessing) -> Array:
    """Decodes a picture and preprocesses it.

    Args:
        raw: the file's bytes.
        how: from the model card.

    Returns:
        A float32 array of one picture: [1, C, H, W] or [1, H, W, C].

    Raises:
        UnsupportedMediaError: when it is no PNG or JPEG, or is broken.
        PayloadTooLargeError: when it declares too many pixels; it isn't decoded then.
    """
    pixels = _decode(raw, how)
    if how.invert:
        pixels = np.float32(255) - pixels
    mean, std = np.array(how.mean, dtype=np.float32), np.array(how.std, dtype=np.float32)
    scaled = (pixels / np.float32(how.scale) - mean) / std
    if how.layout == "NCHW":
        scaled = scaled.transpose(2, 0, 1)
    return np.ascontiguousarray(scaled[np.newaxis], dtype=np.float32)


def _decode(raw: bytes | memoryview, how: Preprocessing) -> Array:
    """Gives the resized pixels 0 to 255 as float32 [H, W, C]."""
    try:
        with warnings.catch_warnings():
            # The size is checked here, before decoding, against a limit of our own. What else
            # Pillow warns of is up to the client: thousands of lines in the log for one file.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(raw), formats=_FORMATS) as picture:
                _check_size(picture)
                _check_scans(picture, raw)
                # A JPEG is decoded at a fraction of its size when that is enough.
                picture.draft(None, (how.width, how.height))
                flat = _on_white(_eight_bits(picture)).convert("L" if how.channels == 1 else "RGB")
    except Image.DecompressionBombError as error:
        raise PayloadTooLargeError(
            f"the picture has more than {MAX_PICTURE_PIXELS} pixels"
        ) from error
    except UnidentifiedImageError as error:
        raise UnsupportedMediaError("expected a PNG or JPEG picture") from error
    except (PayloadTooLargeError, MemoryError):
        raise
    except Exception as error:  # a spoilt file makes Pillow raise almost anything
        raise UnsupportedMediaError("the picture is broken or cut off") from error
    pixels = np.asarray(_resized(flat, how), dtype=np.float32)
    return pixels.reshape(how.height, how.width, how.channels)


def _check_size(picture: Image.Image) -> None:
    width, height = picture.size
    if width * height > MAX_PICTURE_PIXELS:
        raise PayloadTooLargeError(
            f"the picture has {width} × {height} pixels, at most {MAX_PICTURE_PIXELS} are allowed"
        )


def _check_scans(picture: Image.Image, raw: bytes | memoryview) -> None:
    """Bounds the work on a JPEG: 30 bytes can be one more pass over all its pixels."""
    if picture.format == "PNG":
        return
    scans = bytes(raw).count(b"\xff\xda")  # as many or more; data can't hold this marker
    if scans * picture.width * picture.height > MAX_SCANNED_PIXELS:
        raise PayloadTooLargeError(
            f"the picture has {scans} scans of {picture.width} × {picture.height} pixels, at most "
            f"{MAX_SCANNED_PIXELS} pixels are decoded; save it without progressive scans"
        )


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Scales 16-bit greyscale to 8 bits; Pillow's own conversion makes most of it white."""
    if not picture.mode.startswith("I"):
        return picture
    return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))


def _on_white(picture: Image.Image) -> Image.Image:
    """Puts a picture with transparency on white paper."""
    if not picture.has_transparency_data:
        return picture
    colour = picture.convert("RGBA")
    paper = Image.new("RGBA", colour.size, "white")
    return Image.alpha_composite(paper, colour)


def _resized(picture: Image.Image, how: Preprocessing) -> Image.Image:
    size = (how.width, how.height)
    resample = _FILTERS[how.resize]
    if how.fit == "stretch":
        return picture.resize(size, resample)
    ratio = max(how.width / picture.width, how.height / picture.height)
    width, height = how.width / ratio, how.height / ratio
    left, top = (picture.width - width) / 2, (picture.height - height) / 2
    return picture.resize(size, resample, box=(left, top, left + width, top + height))
