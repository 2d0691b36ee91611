"""Models of every version that the onnx package knows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from app.engine import EngineError, WholeModel
from tests import folders, models
from tests.backend.cutting import CutModel
from tests.graph import WIDTH, Graph
from tools.accuracy.difference import compare
from tools.errors import ModelError
from tools.graph.version import NEWEST_IR_VERSION, NEWEST_OPSET, is_newer, readable
from tools.model_folder import changed_files
from tools.preparation import prepare

OPSETS = range(7, onnx.defs.onnx_opset_version() + 1)


def residual(opset: int, ir_version: int) -> onnx.ModelProto:
    """Operators that every opset has, with a skip, a convolution and a dense layer."""
    graph = Graph()
    value = graph.input("x", ["batch", 4, 6, 6])
    for _ in range(2):
        made = graph.node("Relu", graph.node("Conv", value, graph.weight(4, 4, 3, 3), pads=[1] * 4))
        value = graph.node("Add", made, value)
    flat = graph.node("Flatten", value)
    wide = graph.node("Gemm", flat, graph.weight(144, WIDTH), graph.weight(WIDTH))
    graph.node("Softmax", wide, out="y")
    graph.output("y", ["batch", WIDTH])
    model = graph.model(opset=opset, ir_version=ir_version)
    del model.opset_import[1:]
    return model


def ir_version_of(opset: int) -> int:
    """The oldest format version that goes with an opset; version 3 is tested below."""
    return max(4, helper.find_min_ir_version_for([helper.make_opsetid("", opset)]))


@pytest.mark.parametrize("optimization", ["none", "extended"])
@pytest.mark.parametrize("opset", OPSETS)
def test_every_opset(opset: int, optimization: str, tmp_path: Path) -> None:
    model = residual(opset, ir_version_of(opset))
    path = models.save(model, tmp_path / "m.onnx")
    prepared = prepare(path, optimization, {}, tile_bytes=None)
    cut = CutModel(prepared.model, prepared.summary)
    inputs = models.inputs_for(model)
    whole = WholeModel(readable(model).SerializeToString(), optimization).run(inputs)
    found = cut.run(cut.everywhere, inputs)
    assert len(cut.everywhere) > 3
    difference = compare(whole, found)
    assert difference.identical or (optimization != "none" and difference.relative < 1e-6)


@pytest.mark.parametrize("ir_version", range(3, onnx.IR_VERSION + 1))
def test_every_format_version(ir_version: int, tmp_path: Path) -> None:
    """The oldest list weights among the inputs; a request must not have to bring them."""
    model = residual(7, ir_version)
    if ir_version == 3:
        for tensor in model.graph.initializer:
            info = helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            model.graph.input.append(info)
    prepared = prepare(models.save(model, tmp_path / "m.onnx"), "extended", {}, tile_bytes=None)
    assert prepared.summary.inputs == ("x",)
    assert sum(prepared.summary.weight_bytes.values()) > 4 * 144 * WIDTH


def test_limits_are_those_of_the_installed_onnxruntime() -> None:
    WholeModel(residual(NEWEST_OPSET, NEWEST_IR_VERSION).SerializeToString(), "none")
    with pytest.raises(EngineError, match=f"max supported IR version: {NEWEST_IR_VERSION}"):
        WholeModel(residual(7, NEWEST_IR_VERSION + 1).SerializeToString(), "none")
    with pytest.raises(EngineError, match=f"is till opset {NEWEST_OPSET}"):
        WholeModel(residual(NEWEST_OPSET + 1, NEWEST_IR_VERSION).SerializeToString(), "none")


def test_what_is_not_newer_stays_the_same_object() -> None:
    model = residual(NEWEST_OPSET, NEWEST_IR_VERSION)
    assert not is_newer(model)
    assert readable(model) is model


def test_newer_model_keeps_weights_names_and_functions(tmp_path: Path) -> None:
    model = models.function()
    model.ir_version = onnx.IR_VERSION
    for each in (model, model.functions[0]):
        next(o for o in each.opset_import if not o.domain).version = OPSETS[-1]
    before = model.SerializeToString()
    older = readable(model)
    assert model.SerializeToString() == before, "what was given isn't changed"
    inputs = models.inputs_for(model)
    right = models.function()
    expected = WholeModel(right.SerializeToString(), "none").run(inputs)
    assert compare(expected, WholeModel(older.SerializeToString(), "none").run(inputs)).identical
    assert older.graph.initializer == model.graph.initializer


@pytest.mark.parametrize("external", [False, True])
def test_folder_of_a_newer_model_holds_one_that_runs(tmp_path: Path, external: bool) -> None:
    model = residual(OPSETS[-1], onnx.IR_VERSION)
    folder = folders.make_folder(model, tmp_path / "m", count=3, external=external)
    inputs = models.inputs_for(model)
    expected = WholeModel(residual(17, 8).SerializeToString(), "none").run(inputs)
    assert compare(expected, WholeModel(folder.model_path, "none").run(inputs)).identical
    assert changed_files(folder) == []


def test_new_meaning_is_not_lost_silently() -> None:
    graph = Graph()
    graph.input("x", [2], TensorProto.INT8)
    shift = graph.constant(np.array([1, 2], np.int8))
    graph.node("BitShift", "x", shift, out="y", direction="LEFT")
    graph.output("y", [2], TensorProto.INT8)
    model = graph.model(opset=28, ir_version=onnx.IR_VERSION)
    with pytest.raises(ModelError, match=r"made for opset 28, .* opsets up to 26, .*BitShift"):
        readable(model)
