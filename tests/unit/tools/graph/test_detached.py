"""Graphs without weights: nothing but the weights goes, and it comes back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from app.engine import WholeModel
from tests import models
from tests.unit.tools.graph.test_mapped import of_type
from tools.graph.detached import detached_weights, inner_outputs, shapes_as_outputs
from tools.graph.load import load_model
from tools.graph.mapped import LARGE_BYTES, read_mapped


def test_large_weights_are_inputs_for_a_while(tmp_path: Path) -> None:
    graph = load_model(models.save(models.residual(), tmp_path / "m.onnx")).graph
    names, inputs = list(graph.initializers), [value.name for value in graph.inputs]
    large = [name for name in names if graph.initializers[name].const_value.nbytes >= LARGE_BYTES]  # type: ignore[union-attr]
    with detached_weights(graph) as weights:
        assert list(weights) == large
        assert not set(large) & set(graph.initializers)
        assert [value.name for value in graph.inputs] == inputs + large
    assert list(graph.initializers) == names
    assert [value.name for value in graph.inputs] == inputs
    assert all(value.const_value is not None for value in graph.initializers.values())


def test_types_that_numpy_does_not_have_may_stay(tmp_path: Path) -> None:
    path = models.save(of_type(onnx.TensorProto.BFLOAT16), tmp_path / "m.onnx")
    graph = read_mapped(path).to_ir().graph
    with detached_weights(graph) as weights:
        assert list(weights) == ["w"]
    with detached_weights(graph, numpy_only=True) as weights:
        assert not weights


def test_onnxruntime_tells_shapes_with_and_without_a_run(tmp_path: Path) -> None:
    source = models.residual()
    model = load_model(models.save(source, tmp_path / "m.onnx"))
    names = [value.name or "" for node in model.graph for value in node.outputs]
    inputs = models.inputs_for(source)
    sizes = {name: array.shape for name, array in inputs.items()}
    told = {s.name: s for s in WholeModel(inner_outputs(model, names, sizes), "none").outputs}
    graph, weights, outputs = shapes_as_outputs(model, names)
    assert len(graph) < sum(array.nbytes for array in weights.values())
    seen = WholeModel(graph, "none").run({**inputs, **weights})
    for name, output in zip(names, outputs, strict=True):
        assert told[name].shape == tuple(seen[output].tolist())
        assert told[name].dtype == "float32"
    assert np.all([array.flags.c_contiguous for array in weights.values()])
