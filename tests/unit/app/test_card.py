from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from app.card import read_preprocessing, read_purpose
from app.fields import FieldError, Fields
from app.pictures import picture_tensor

PREPROCESSING: dict[str, object] = {
    "layout": "NCHW",
    "channels": 3,
    "height": 2,
    "width": 2,
    "fit": "stretch",
    "resize": "bilinear",
    "scale": 255,
    "mean": [0, 0, 0],
    "std": [1, 1, 1],
    "invert": False,
}
PURPOSE: dict[str, object] = {
    "title": "t",
    "task": "image-classification",
    "labels": ["a"],
    "scores": "logits",
    "preprocessing": PREPROCESSING,
}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"task": "telepathy"}, "task"),
        ({"scores": "guesses"}, "scores"),
        ({"labels": "abc"}, "labels"),
        ({"preprocessing": None}, "image-classification needs it"),
        ({"preprocessing": {**PREPROCESSING, "code": "import os"}}, "unknown field"),
    ],
)
def test_purpose_out_of_form(change: dict[str, Any], said: str) -> None:
    with pytest.raises(FieldError, match=said):
        read_purpose(Fields(PURPOSE | change, "card"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"channels": 2}, "expected 1 .* or 3"),
        ({"channels": 1}, "expected 1 numbers in mean and std, got 3 and 3"),
        ({"height": 0}, "height"),
        ({"width": 100_000}, "width"),
        ({"scale": 0}, "above 0"),
        ({"scale": 1e-60}, r"preprocessing\.scale: expected 1\.2e-38 to 1e\+38"),
        ({"scale": 1e60}, r"preprocessing\.scale: expected 1\.2e-38 to 1e\+38"),
        ({"std": [1, 1e-60, 1]}, r"preprocessing\.std: expected .* got 1e-60 to 1"),
        ({"std": [1, 5e-324, 1]}, "std: expected"),
        ({"std": [1, 1, 1.1e-38]}, "std: expected"),
        ({"mean": [0, 1e39, 0]}, "beyond float32"),
        ({"scale": 1e-37}, "beyond float32"),
        ({"scale": 1e-20, "std": [1, 1e-20, 1]}, "beyond float32"),
        ({"mean": [1e20, 0, 0], "std": [1e-20, 1, 1]}, "beyond float32"),
        ({"scale": float("inf")}, "finite"),
        ({"std": [1, 0, 1]}, "above 0"),
        ({"mean": [1]}, "got 1 and 3"),
        ({"resize": "lanczos"}, "resize"),
        ({"invert": 1}, "invert"),
    ],
)
def test_preprocessing_out_of_form(change: dict[str, Any], said: str) -> None:
    with pytest.raises(FieldError, match=said):
        read_purpose(Fields(PURPOSE | {"preprocessing": PREPROCESSING | change}, "card"))


NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
POSITIVE = st.floats(min_value=0, allow_nan=False, allow_infinity=False)


@settings(max_examples=200)
@given(POSITIVE, NUMBERS, POSITIVE, st.booleans())
def test_what_is_accepted_makes_finite_tensors(
    scale: float, mean: float, std: float, invert: bool
) -> None:
    """Of the darkest and the brightest pixel, as `picture_tensor` computes in float32."""
    change = {"channels": 1, "scale": scale, "mean": [mean], "std": [std], "invert": invert}
    try:
        how = read_preprocessing(Fields(PREPROCESSING | change, "card"))
    except FieldError:
        return
    for shade in (0, 255):
        file = io.BytesIO()
        Image.new("L", (2, 2), shade).save(file, "png")
        assert np.isfinite(picture_tensor(file.getvalue(), how)).all()


@pytest.mark.parametrize(
    ("scale", "mean", "std"),
    [(255, 0.5, 0.25), (1, 127.5, 58.4), (1e-3, 0, 1e6), (2.0**-126 * 1e30, 0, 1), (1e30, 0, 1)],
)
def test_ordinary_and_merely_strange_numbers_are_accepted(
    scale: float, mean: float, std: float
) -> None:
    change = {"channels": 1, "scale": scale, "mean": [mean], "std": [std]}
    assert read_preprocessing(Fields(PREPROCESSING | change, "card")).scale == scale


def test_model_without_pictures_needs_no_preprocessing() -> None:
    purpose = read_purpose(
        Fields(PURPOSE | {"task": "tensors", "preprocessing": None, "labels": []}, "card")
    )
    assert purpose.preprocessing is None
