"""Where even the narrowest columns are too large, sums are cut: within a bound, never beyond."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from app.engine import WholeModel
from tests import models
from tests.graph import Graph
from tools.graph.extract import save_model
from tools.graph.load import load_optimized
from tools.graph.tiling.matrices import inner_bound
from tools.graph.tiling.weights import tile_weights

INNER, COLUMNS = 2100, 112
CASES: dict[str, dict[str, Any]] = {
    "Gemm": {"alpha": 0.5, "beta": 2.0},
    "Gemm turned": {"transB": 1},
    "Gemm turned twice": {"transA": 1, "transB": 1},
    "FusedGemm": {"activation": "Relu"},
    "MatMul": {},
    "FusedMatMul": {"transB": 1, "alpha": 0.5},
}


def model(name: str, rows: int, attributes: dict[str, Any]) -> onnx.ModelProto:
    op = name.split(maxsplit=1)[0]
    graph = Graph()
    shape = (INNER, rows) if attributes.get("transA") else (rows, INNER)
    turned = attributes.get("transB")
    names = [graph.input("x", shape)]
    names.append(graph.weight(COLUMNS, INNER) if turned else graph.weight(INNER, COLUMNS))
    if "Gemm" in op:
        names.append(graph.weight(COLUMNS))
    domain = {"domain": "com.microsoft"} if op.startswith("Fused") else {}
    graph.node(op, *names, out="y", **domain, **attributes)
    graph.output("y", [rows, COLUMNS])
    made = graph.model()
    made.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    return made


@pytest.mark.parametrize("rows", [1, 2, 9])
@pytest.mark.parametrize("name", CASES)
def test_sums_in_parts_are_within_the_bound(name: str, rows: int, tmp_path: Path) -> None:
    made = model(name, rows, CASES[name])
    whole = models.save(made, tmp_path / "whole.onnx")
    loaded = load_optimized(whole, tmp_path)
    (found,) = tile_weights(loaded, 100_000)
    assert found.tiles > 2
    largest = max(v.const_value.nbytes for v in loaded.graph.initializers.values() if v.const_value)
    assert largest <= 200_000
    save_model(loaded, tmp_path / "tiled.onnx")
    inputs = models.inputs_for(made)
    expected = WholeModel(whole, "none").run(inputs)["y"]
    actual = WholeModel(tmp_path / "tiled.onnx", "none").run(inputs)["y"]
    assert expected.any()
    assert (np.abs(expected - actual) <= inner_bound(INNER, _magnitude(made, inputs))).all()


def _magnitude(made: onnx.ModelProto, inputs: dict[str, Any]) -> Any:
    """Σ|x·w| + |bias|, factors included: no sum in between is larger."""
    arrays = [np.abs(onnx.numpy_helper.to_array(each)) for each in made.graph.initializer]
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in made.graph.node[0].attribute}
    x, weight = np.abs(inputs["x"]), arrays[0]
    x = x.T if attributes.get("transA") else x
    weight = weight.T if attributes.get("transB") else weight
    total = attributes.get("alpha", 1.0) * (x @ weight)
    return total + (attributes.get("beta", 1.0) * arrays[1] if len(arrays) > 1 else 0)


def test_a_fused_activation_sees_the_sum_alone(tmp_path: Path) -> None:
    whole = models.save(model("FusedGemm", 2, {"activation": "Relu"}), tmp_path / "m.onnx")
    loaded = load_optimized(whole, tmp_path)
    tile_weights(loaded, 100_000)
    for node in loaded.graph:
        if node.op_type == "FusedGemm":
            readers = [reader.op_type for reader in node.outputs[0].consumers()]
            assert set(readers) <= {"Concat"}, "an activated part is never added to"
