"""Digits as pictures, and pictures as tensors.

Training sees exactly what a client's PNG goes through:

    8x8 values -> greyscale picture of 128x128 -> resized to 32x32 (Pillow,
    bilinear) -> float32 (pixel / 255 - mean) / std -> [1, 32, 32]

PNG loses nothing, so the accuracy on these pictures saved as files is the
accuracy on the arrays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

FULL_INK: Final = 16
PICTURE_SIDE: Final = 128
INPUT_SIDE: Final = 32
PIXEL_SCALE: Final = 255

MAX_SHIFT_SHARE: Final = 0.08
"""Of the side, in each direction: about 10 of 128 pixels, the digits reach almost to the edge."""
MAX_TURN_DEGREES: Final = 10.0
MIN_SIZE: Final = 0.6
"""The data's digits touch the edge; those of other people's pictures have a margin."""
MAX_SIZE: Final = 1.1


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation of a pixel divided by 255."""

    mean: float
    std: float


def picture_of(values: NDArray[np.float64]) -> Image.Image:
    """Draws one digit.

    Args:
        values: [8, 8], 0 to 16.

    Returns:
        A greyscale picture (mode "L"), 128x128, light ink on black.
    """
    pixels = np.rint(values * (PIXEL_SCALE / FULL_INK)).astype(np.uint8)
    size = (PICTURE_SIDE, PICTURE_SIDE)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR)


def pixels_of(picture: Image.Image) -> NDArray[np.float32]:
    """The picture at the network's input size: float32 [1, 32, 32], 0 to 1."""
    size = (INPUT_SIDE, INPUT_SIDE)
    resized = picture.convert("L").resize(size, Image.Resampling.BILINEAR)
    return np.asarray(resized, dtype=np.float32)[np.newaxis] / np.float32(PIXEL_SCALE)


def normalised(pixels: NDArray[np.float32], normalisation: Normalisation) -> NDArray[np.float32]:
    """`(pixels - mean) / std` in float32, any shape."""
    return (pixels - np.float32(normalisation.mean)) / np.float32(normalisation.std)


def measure(pixels: NDArray[np.float32]) -> Normalisation:
    """Mean and standard deviation over all pixels, rounded to the 4 digits that model.json shows.

    Args:
        pixels: of the training part only; any shape.
    """
    mean = round(float(pixels.mean(dtype=np.float64)), 4)
    std = round(float(pixels.std(dtype=np.float64)), 4)
    return Normalisation(mean, std)


def moved(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A copy that is a little shifted, turned, and larger or smaller; its size stays.

    Args:
        picture: greyscale; what moves in from outside is black, like the ground.
        rng: drawn from four times, whatever the picture.
    """
    width, height = picture.size
    shift_x, shift_y = rng.uniform(-MAX_SHIFT_SHARE, MAX_SHIFT_SHARE, size=2) * (width, height)
    turn = np.deg2rad(rng.uniform(-MAX_TURN_DEGREES, MAX_TURN_DEGREES))
    size = rng.uniform(MIN_SIZE, MAX_SIZE)
    # Pillow wants the way back: where in the old picture a pixel of the new one comes from.
    cos, sin = np.cos(turn) / size, np.sin(turn) / size
    middle_x, middle_y = width / 2, height / 2
    from_x, from_y = middle_x + shift_x, middle_y + shift_y
    way_back = (
        cos, sin, middle_x - cos * from_x - sin * from_y,
        -sin, cos, middle_y + sin * from_x - cos * from_y,
    )  # fmt: skip
    return picture.transform(
        picture.size, Image.Transform.AFFINE, way_back, Image.Resampling.BILINEAR
    )
