from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.unit.tools.zoo.small import opened
from tools.zoo.inputs import example_inputs
from tools.zoo.plain import unet


def test_a_unet_answers_for_the_middle_of_the_picture(tmp_path: Path) -> None:
    network = unet(side=44, channels=(4, 8, 16))
    found = opened(network, tmp_path).run(example_inputs(network.inputs, {}, "picture", "picture"))
    assert found["logits"].shape == (1, 2, 4, 4)
    assert np.isfinite(found["logits"]).all()


def test_a_unet_sees_the_far_corner_through_its_lower_levels(tmp_path: Path) -> None:
    network = unet(side=44, channels=(4, 8, 16))
    model = opened(network, tmp_path)
    image = example_inputs(network.inputs, {}, "picture", "picture")["image"]
    changed = image.copy()
    changed[..., :8, :8] += 3
    before, after = (model.run({"image": each})["logits"] for each in (image, changed))
    assert np.abs(before - after)[..., 0, 0].max() > 1e-3


def test_a_side_that_cannot_be_halved_is_refused() -> None:
    with pytest.raises(ValueError, match="a side of 41 can't be halved"):
        unet(side=45, channels=(4, 8, 16))
