from __future__ import annotations

import numpy as np
import pytest

from app.tensors import Array, TensorSpec
from tools.errors import ModelError
from tools.zoo.inputs import KINDS, example_inputs

IMAGE = TensorSpec("image", "float32", (1, 3, 20, 30))
IDS = TensorSpec("input_ids", "int64", ("batch", "sequence"))


def image(kind: str, seed: str) -> Array:
    return example_inputs([IMAGE], {}, kind, seed)["image"]


@pytest.mark.parametrize("kind", KINDS)
def test_an_input_is_the_same_at_every_call_and_another_for_another_seed(kind: str) -> None:
    assert np.array_equal(image(kind, "a"), image(kind, "a"))
    assert not np.array_equal(image(kind, "a"), image(kind, "b"))


@pytest.mark.parametrize("kind", ["picture", "noise"])
def test_pixels_have_mean_0_and_deviation_1(kind: str) -> None:
    found = image(kind, "a")
    assert found.dtype == np.float32
    assert found.shape == IMAGE.shape
    assert found.mean() == pytest.approx(0, abs=0.1)
    assert found.std() == pytest.approx(1, abs=0.1)


def test_neighbours_are_alike_in_a_picture_and_not_in_noise() -> None:
    likeness = {}
    for kind in ("picture", "noise"):
        found = image(kind, "a")
        likeness[kind] = np.corrcoef(found[..., 1:].ravel(), found[..., :-1].ravel())[0, 1]
    assert likeness["picture"] > 0.4
    assert abs(likeness["noise"]) < 0.1


def test_a_flat_picture_has_one_colour() -> None:
    found = image("flat", "a")
    assert np.array_equal(found, np.broadcast_to(found[..., :1, :1], found.shape))
    assert len(np.unique(found)) == 3


def test_numbers_stay_in_their_range_and_symbols_take_their_sizes() -> None:
    sizes = {"batch": 3, "sequence": 200}
    found = example_inputs([IDS], {"input_ids": (5, 8)}, "picture", "a", sizes)["input_ids"]
    assert found.dtype == np.int64
    assert found.shape == (3, 200)
    assert set(found.ravel()) == {5, 6, 7}


def test_integers_without_a_range_are_refused() -> None:
    with pytest.raises(ModelError, match="input 'input_ids' of int64 needs a range"):
        example_inputs([IDS], {}, "picture", "a")
