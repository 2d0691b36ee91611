"""A PNG or JPEG becomes an input tensor, as the model card says."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image, _imaging

from app.card import Preprocessing
from app.errors import ApplianceError
from app.limits import MIB
from app.picture_files import PictureFile, broken, read_picture_file
from app.tensors import Array

_FORMATS: Final = ("PNG", "JPEG")
_STRIP_PIXELS: Final = 1 << 20
_BLOCK_BYTES: Final = 64 * MIB

# A picture in one block goes back to the kernel when it is freed. Of Pillow's own blocks of 16 MiB
# the C library keeps many, scattered: up to 100 MiB in each worker thread.
_imaging.set_block_size(_BLOCK_BYTES)
_FILTERS: Final = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture whose size is known and within the limits; nothing is decoded yet.

    Attributes:
        file: what is decoded.
        how: from the model card.
    """

    file: PictureFile
    how: Preprocessing

    @property
    def decoding_bytes(self) -> int:
        """Most bytes of memory that `tensor` takes."""
        return self.file.decoding_bytes

    def tensor(self, check: Callable[[], None] = lambda: None) -> Array:
        """Decodes and preprocesses it.

        Args:
            check: called now and then; what it raises ends the decoding.

        Returns:
            A float32 array of one picture: [1, C, H, W] or [1, H, W, C].

        Raises:
            UnsupportedMediaError: it is broken.
        """
        how = self.how
        pixels = self._pixels(check)
        if how.invert:
            pixels = np.float32(255) - pixels
        mean, std = np.array(how.mean, dtype=np.float32), np.array(how.std, dtype=np.float32)
        scaled = (pixels / np.float32(how.scale) - mean) / std
        if how.layout == "NCHW":
            scaled = scaled.transpose(2, 0, 1)
        return np.ascontiguousarray(scaled[np.newaxis], dtype=np.float32)

    def _pixels(self, check: Callable[[], None]) -> Array:
        """Gives the resized pixels 0 to 255 as float32 [H, W, C]."""
        how = self.how
        try:
            with warnings.catch_warnings():
                # What Pillow warns of is up to the client: thousands of lines in the log for one
                # file. The size was checked against a limit of our own.
                warnings.simplefilter("ignore")
                with Image.open(_Watched(self.file.parts, check), formats=_FORMATS) as picture:
                    _check_size(picture, self.file)
                    # A JPEG is decoded at a fraction of its size when that is enough.
                    picture.draft(None, (how.width, how.height))
                    mode = "L" if how.channels == 1 else "RGB"
                    flat = _on_white(_eight_bits(picture), mode, check)
        except (ApplianceError, MemoryError):
            raise
        except Exception as error:  # a spoilt file makes Pillow raise almost anything
            raise broken() from error
        pixels = np.asarray(_resized(flat, how), dtype=np.float32)
        return pixels.reshape(how.height, how.width, how.channels)


def open_picture(raw: bytes | memoryview, how: Preprocessing) -> Picture:
    """Looks at a picture's file; decodes nothing.

    Args:
        raw: the file's bytes.
        how: from the model card.

    Raises:
        UnsupportedMediaError: it is no PNG or JPEG, is broken, or of a kind that isn't decoded.
        PayloadTooLargeError: decoding it would take too much.
    """
    return Picture(read_picture_file(raw), how)


def picture_tensor(raw: bytes | memoryview, how: Preprocessing) -> Array:
    """Decodes and preprocesses a picture at once: `open_picture`, then `Picture.tensor`."""
    return open_picture(raw, how).tensor()


class _Watched(io.BytesIO):
    """A file in memory that asks at every read whether to go on."""

    def __init__(self, parts: Sequence[memoryview], check: Callable[[], None]) -> None:
        super().__init__(b"".join(parts))
        self._check = check

    def read(self, size: int | None = -1, /) -> bytes:
        self._check()
        return super().read(size)


def _check_size(picture: Image.Image, file: PictureFile) -> None:
    if picture.size != (file.width, file.height):
        raise broken()


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Scales 16-bit greyscale to 8 bits; Pillow's own conversion makes most of it white."""
    if not picture.mode.startswith("I"):
        return picture
    return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))


def _on_white(picture: Image.Image, mode: str, check: Callable[[], None]) -> Image.Image:
    """Puts a picture with transparency on white paper, in another mode.

    It goes strip by strip: Pillow lets no other thread run while it joins two pictures.
    """
    if not picture.has_transparency_data:
        return picture.convert(mode)
    picture.load()
    flat = Image.new(mode, picture.size)
    rows = max(1, _STRIP_PIXELS // picture.width)
    for top in range(0, picture.height, rows):
        check()
        box = (0, top, picture.width, min(top + rows, picture.height))
        strip = picture.crop(box).convert("RGBA")
        paper = Image.new("RGBA", strip.size, "white")
        flat.paste(Image.alpha_composite(paper, strip).convert(mode), box)
    return flat


def _resized(picture: Image.Image, how: Preprocessing) -> Image.Image:
    size = (how.width, how.height)
    resample = _FILTERS[how.resize]
    if how.fit == "stretch":
        return picture.resize(size, resample)
    ratio = max(how.width / picture.width, how.height / picture.height)
    width, height = how.width / ratio, how.height / ratio
    left, top = (picture.width - width) / 2, (picture.height - height) / 2
    return picture.resize(size, resample, box=(left, top, left + width, top + height))
