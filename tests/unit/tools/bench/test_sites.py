"""The models beside the quiet client's one are what the attacks need."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from app.limits import MAX_BODY_BYTES, MAX_TENSOR_ELEMENTS
from tools.bench.sites import (
    HUNGRY,
    WIDE,
    WIDE_ELEMENTS,
    Site,
    companions,
    ordinary_requests,
)

MIB = 1 << 20


def test_nothing_stands_beside_it(tmp_path: Path) -> None:
    assert companions(Site.PLAIN, 5 * MIB, tmp_path).folders == ()
    assert not any(tmp_path.iterdir())
    assert ordinary_requests(Site.PLAIN) == []


def test_the_wide_model_answers_as_much_as_it_is_asked(tmp_path: Path) -> None:
    made = companions(Site.WIDE, 5 * MIB, tmp_path)
    (folder,) = made.folders
    assert folder.model_id == WIDE
    assert folder.plan.inputs[0].shape == folder.plan.outputs[0].shape == ("n",)
    assert WIDE_ELEMENTS < MAX_TENSOR_ELEMENTS
    assert 4 * WIDE_ELEMENTS < MAX_BODY_BYTES
    assert made.budget_bytes > 2 * folder.plan.budget_bytes, "it isn't what is short"


def test_neither_hungry_model_leaves_room_for_another(tmp_path: Path) -> None:
    neighbour_bytes = 9 * MIB
    made = companions(Site.SCARCE, neighbour_bytes, tmp_path)
    assert tuple(folder.model_id for folder in made.folders) == HUNGRY
    assert made.budget_bytes == 0, "the budget is that of the largest model"
    assert all(folder.plan.budget_bytes > neighbour_bytes for folder in made.folders)
    assert all(len(folder.plan.partitions) == 1 for folder in made.folders), "no smaller part"
    asked = dict(ordinary_requests(Site.SCARCE))
    assert [inputs["x"].shape for inputs in asked.values()] == [(1, 1)] * 2
    assert all(inputs["x"].dtype == np.float32 for inputs in asked.values())
