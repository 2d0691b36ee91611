from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tools.training.pictures import (
    MAX_SHIFT_SHARE,
    Normalisation,
    measure,
    moved,
    normalised,
    picture_of,
    pixels_of,
)


@pytest.mark.parametrize(("value", "pixel"), [(0, 0), (16, 255), (8, 128)])
def test_ink_spans_the_whole_range_of_grey(value: int, pixel: int) -> None:
    picture = picture_of(np.full((8, 8), float(value)))
    assert (picture.mode, picture.size) == ("L", (128, 128))
    assert picture.getextrema() == (pixel, pixel)


def test_pixels_are_between_0_and_1_in_the_shape_of_the_input() -> None:
    values = np.zeros((8, 8))
    values[:, 4:] = 16
    pixels = pixels_of(picture_of(values))
    assert pixels.shape == (1, 32, 32)
    assert pixels.dtype == np.float32
    assert pixels[0, :, 0].max() == 0
    assert pixels[0, :, -1].min() == 1


def test_measured_pixels_have_mean_0_and_deviation_1() -> None:
    pixels = np.random.default_rng(3).random((50, 1, 32, 32), dtype=np.float32)
    result = normalised(pixels, measure(pixels))
    assert result.dtype == np.float32
    assert abs(result.mean()) < 1e-3
    assert abs(result.std() - 1) < 1e-3


def test_normalising_is_minus_mean_divided_by_deviation() -> None:
    values = np.array([0.25, 1.0], dtype=np.float32)
    assert normalised(values, Normalisation(0.25, 0.5)).tolist() == [0, 1.5]


def test_the_same_random_numbers_move_a_picture_the_same_way() -> None:
    picture = picture_of(np.random.default_rng(0).random((8, 8)) * 16)
    first, again, other = (moved(picture, np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != other.tobytes()
    assert first.size == picture.size


def test_a_moved_picture_brings_in_nothing_but_black() -> None:
    black = Image.new("L", (128, 128))
    for seed in range(20):
        assert moved(black, np.random.default_rng(seed)).getextrema() == (0, 0)


def test_the_middle_moves_no_farther_than_the_limit() -> None:
    dot = Image.new("L", (128, 128))
    dot.paste(255, (60, 60, 68, 68))
    for seed in range(50):
        pixels = np.asarray(moved(dot, np.random.default_rng(seed)), dtype=np.float64)
        rows, columns = np.indices(pixels.shape) + 0.5
        centre = np.array([(axis * pixels).sum() / pixels.sum() for axis in (columns, rows)])
        assert np.abs(centre - 64).max() <= MAX_SHIFT_SHARE * 128 + 1
