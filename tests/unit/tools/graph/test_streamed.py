"""A model written weight by weight is the model that an ordinary writer writes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import onnx_ir as ir
import pytest

from app.engine import WholeModel
from tests import models
from tests.unit.tools.graph.test_mapped import TYPES, of_type
from tools.graph.load import load_model
from tools.graph.streamed import write_model


@pytest.mark.parametrize("build", [models.chain, models.residual, models.diamond])
def test_same_model(tmp_path: Path, build: Callable[[], onnx.ModelProto]) -> None:
    model = load_model(models.save(build(), tmp_path / "m.onnx"))
    before = list(model.graph.initializers)
    write_model(model, tmp_path / "streamed.onnx")
    assert list(model.graph.initializers) == before, "unchanged"
    ir.save(model, tmp_path / "ordinary.onnx")
    streamed, ordinary = (onnx.load(tmp_path / f"{n}.onnx") for n in ("streamed", "ordinary"))
    onnx.checker.check_model(streamed)
    weights = [{i.name: i for i in each.graph.initializer} for each in (streamed, ordinary)]
    assert {name: i.raw_data for name, i in weights[0].items()} == {
        name: i.raw_data for name, i in weights[1].items()
    }
    for each in (streamed, ordinary):
        # What onnx-ir tells of a weight's shape beside the weight itself.
        kept = [value for value in each.graph.value_info if value.name not in weights[0]]
        del each.graph.initializer[:], each.graph.value_info[:]
        each.graph.value_info.extend(kept)
    assert streamed == ordinary


@pytest.mark.parametrize("data_type", TYPES)
def test_every_element_type(tmp_path: Path, data_type: int) -> None:
    model = of_type(data_type)
    write_model(ir.from_proto(model), tmp_path / "m.onnx")
    [weight] = onnx.load(tmp_path / "m.onnx").graph.initializer
    assert weight == model.graph.initializer[0]


def test_same_bytes_every_time_and_the_same_results(tmp_path: Path) -> None:
    path = models.save(models.residual(), tmp_path / "m.onnx")
    for name in ("a.onnx", "b.onnx"):
        write_model(load_model(path), tmp_path / name)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    inputs = models.inputs_for(models.residual())
    expected = WholeModel(path, "none").run(inputs)["y"]
    assert WholeModel(tmp_path / "a.onnx", "none").run(inputs)["y"].tobytes() == expected.tobytes()
