from __future__ import annotations

from typing import Any

import pytest

from app.card import read_purpose
from app.fields import FieldError, Fields

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


def test_model_without_pictures_needs_no_preprocessing() -> None:
    purpose = read_purpose(
        Fields(PURPOSE | {"task": "tensors", "preprocessing": None, "labels": []}, "card")
    )
    assert purpose.preprocessing is None
