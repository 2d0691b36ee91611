from __future__ import annotations

import io
import zlib
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from app.card import Preprocessing
from app.errors import PayloadTooLargeError, UnsupportedMediaError
from app.limits import MAX_PICTURE_PIXELS
from app.pictures import picture_tensor
from app.tensors import Array

GREY = Preprocessing("NCHW", 1, 4, 4, "stretch", "nearest", 1.0, (0.0,), (1.0,), invert=False)
COLOUR = replace(GREY, channels=3, mean=(0.0,) * 3, std=(1.0,) * 3)


def encoded(array: Array, kind: str = "PNG", mode: str | None = None, **options: object) -> bytes:
    file = io.BytesIO()
    picture = Image.fromarray(array)
    (picture.convert(mode) if mode else picture).save(file, kind, **options)
    return file.getvalue()


PIXELS = np.arange(0, 160, 10, dtype=np.uint8).reshape(4, 4)


def test_pixels_arrive_as_they_are() -> None:
    tensor = picture_tensor(encoded(PIXELS), GREY)
    assert tensor.dtype == np.float32
    assert tensor.shape == (1, 1, 4, 4)
    np.testing.assert_array_equal(tensor[0, 0], PIXELS)
    assert tensor.flags.c_contiguous


def test_numbers_of_the_card_are_applied_in_order() -> None:
    how = replace(GREY, scale=255.0, mean=(0.5,), std=(0.25,), invert=True)
    expected = ((255.0 - PIXELS) / 255 - 0.5) / 0.25
    np.testing.assert_allclose(picture_tensor(encoded(PIXELS), how)[0, 0], expected, rtol=1e-5)


@pytest.mark.parametrize(("layout", "shape"), [("NCHW", (1, 3, 4, 4)), ("NHWC", (1, 4, 4, 3))])
def test_layouts(layout: str, shape: tuple[int, ...]) -> None:
    colours = np.zeros((4, 4, 3), np.uint8)
    colours[..., 2] = 200
    how = replace(COLOUR, layout=layout, mean=(1.0, 2.0, 3.0))
    tensor = picture_tensor(encoded(colours), how)
    assert tensor.shape == shape
    channels = tensor if layout == "NHWC" else tensor.transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(channels[0, 1, 1], [-1, -2, 197])


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_every_kind_of_png(mode: str) -> None:
    white = np.full((8, 8), 255, np.uint8)
    tensor = picture_tensor(encoded(white, mode=mode), COLOUR)
    np.testing.assert_array_equal(tensor, np.full((1, 3, 4, 4), 255))


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    deep = PIXELS.astype(np.uint16) * 256
    np.testing.assert_array_equal(picture_tensor(encoded(deep), GREY)[0, 0], PIXELS)


def test_what_shows_through_is_white() -> None:
    clear = np.zeros((4, 4, 4), np.uint8)
    np.testing.assert_array_equal(picture_tensor(encoded(clear), GREY), np.full((1, 1, 4, 4), 255))


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_every_kind_of_jpeg(mode: str) -> None:
    black = np.zeros((16, 16), np.uint8)
    tensor = picture_tensor(encoded(black, "JPEG", mode), COLOUR)
    np.testing.assert_allclose(tensor, np.zeros((1, 3, 4, 4)), atol=2)


def test_crop_takes_the_middle() -> None:
    wide = np.repeat([[10, 10, 200, 200, 200, 200, 10, 10]], 4, axis=0).astype(np.uint8)
    np.testing.assert_array_equal(
        picture_tensor(encoded(wide), replace(GREY, fit="crop")), np.full((1, 1, 4, 4), 200)
    )


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that declares any size."""
    raw = bytearray(encoded(PIXELS))
    raw[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    raw[29:33] = zlib.crc32(bytes(raw[12:29])).to_bytes(4, "big")
    return bytes(raw)


@pytest.mark.parametrize(
    "size", [(50_000, 50_000), (4001, 4000), (MAX_PICTURE_PIXELS + 1, 1), (1 << 31, 1 << 31)]
)
def test_picture_that_declares_too_much_is_not_decoded(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def decode(*_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decode)
    with pytest.raises((PayloadTooLargeError, UnsupportedMediaError)) as error:
        picture_tensor(bomb(*size), GREY)
    assert isinstance(error.value, PayloadTooLargeError) or max(size) >= 1 << 31


GIF = encoded(PIXELS, "GIF")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"text",
        GIF,
        encoded(PIXELS, "TIFF"),
        encoded(PIXELS)[:40],
        encoded(np.tile(PIXELS, (50, 50)))[:-100],
        encoded(np.tile(PIXELS, (50, 50)), "JPEG")[:300],
    ],
)
def test_picture_that_is_none(raw: bytes) -> None:
    with pytest.raises(UnsupportedMediaError, match=r"PNG or JPEG|broken or cut off"):
        picture_tensor(raw, GREY)


def test_jpeg_with_endless_passes_is_not_decoded() -> None:
    file = io.BytesIO()
    Image.new("L", (4000, 4000), 128).save(file, "JPEG", progressive=True, quality=50)
    raw = file.getvalue()
    last_scan = raw[raw.rindex(b"\xff\xda") : -2]
    assert picture_tensor(raw, GREY).size
    with pytest.raises(PayloadTooLargeError, match="scans of 4000 × 4000 pixels"):
        picture_tensor(raw[:-2] + 300 * last_scan + raw[-2:], GREY)
