from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from app.tensors import BFLOAT16, TensorSpec, widened
from tests import folders, models
from tools.accuracy.inputs import Case, cases
from tools.errors import ModelError
from tools.model_folder import ModelFolder


def by_name(folder: ModelFolder) -> dict[str, Case]:
    return {case.name: case for case in cases(folder)}


def test_pictures_random_and_structured(classifier_folder: ModelFolder) -> None:
    found = by_name(classifier_folder)
    assert [case.label for case in found.values() if case.label is not None] == [0, 1]
    assert found["picture 0.png"].inputs["image"].shape == (1, 1, 8, 8)
    assert {case.inputs["image"].shape[0] for case in found.values()} == {1, 3}
    assert not found["zeros"].inputs["image"].any()
    assert found["ramp"].inputs["image"].reshape(-1)[[0, -1]].tolist() == [-1, 1]


def test_the_same_at_every_call(classifier_folder: ModelFolder) -> None:
    one, two = by_name(classifier_folder), by_name(classifier_folder)
    assert one.keys() == two.keys()
    for name, case in one.items():
        np.testing.assert_array_equal(case.inputs["image"], two[name].inputs["image"])
    randoms = [case.inputs["image"].tobytes() for name, case in one.items() if "random" in name]
    assert len(set(randoms)) == len(randoms) == 6


@pytest.mark.parametrize("name", models.MODELS)
def test_every_declared_type_and_shape(tmp_path: Path, name: str) -> None:
    folder = folders.make_folder(models.MODELS[name](), tmp_path / "m")
    for case in cases(folder):
        assert case.inputs.keys() == {spec.name for spec in folder.plan.inputs}
        for spec in folder.plan.inputs:
            spec.check(case.inputs[spec.name])


def test_planned_dimensions_are_taken(tmp_path: Path) -> None:
    folder = folders.make_folder(models.chain(), tmp_path / "m", dimensions={"batch": 5})
    assert {case.inputs["x"].shape[0] for case in cases(folder)} == {5}


def test_text_is_made_up_of_numerals(tmp_path: Path) -> None:
    folder = folders.make_folder(models.MODELS["text"](), tmp_path / "m")
    words = {word for case in cases(folder) for word in case.inputs["words"].reshape(-1)}
    assert words == {"0", "1", "2", "12"}


def test_bfloat16_is_the_upper_half_of_float32(tmp_path: Path) -> None:
    folder = folders.make_folder(models.MODELS["bfloat16"](), tmp_path / "m")
    found = by_name(folder)["ramp"].inputs["x"]
    assert found.dtype == BFLOAT16
    wide = widened(found).reshape(-1)
    np.testing.assert_allclose(wide, np.linspace(-1, 1, wide.size), atol=1 / 128)


@pytest.mark.parametrize(
    "spec", [TensorSpec("any", "float32", None), TensorSpec("any", "float8e5m2", (1,))]
)
def test_input_that_cannot_be_made_up(chain_folder: ModelFolder, spec: TensorSpec) -> None:
    folder = replace(chain_folder, plan=replace(chain_folder.plan, inputs=(spec,)))
    with pytest.raises(ModelError, match="input 'any' is of float"):
        cases(folder)
