"""Element types that numpy or onnxruntime's values don't have."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto

from app.engine import OrtEngine, WholeModel
from app.errors import InputError
from app.tensors import BFLOAT16, ITEM_BITS, Array, TensorSpec, aligned_buffer, packed_bytes
from tests import models
from tests.fakes import layout, spec
from tests.graph import FLOAT, WIDTH, Graph
from tools.graph.structure import separate


def answer(
    model: onnx.ModelProto, path: Path, inputs: dict[str, Array], specs: tuple[TensorSpec, ...]
) -> Array:
    """Runs a model as one partition; what isn't an input is its one output."""
    *read, made = specs
    structure = separate(models.save(model, path), [each.name for each in read], [made.name])
    assert structure.weights, "weights are bound, not part of the graph"
    weights = aligned_buffer(structure.weights_bytes)
    structure.fill(weights)
    engine = OrtEngine()
    wiring = replace(layout(read, [made]), weights=structure.weights)
    session = engine.open(structure.graph, wiring)
    values = {each.name: engine.wrap(inputs[each.name]) for each in read}
    for _ in range(2):
        found = engine.unwrap(session.run(values, weights)[made.name]).copy()
    return found


@pytest.mark.parametrize(
    ("element_type", "dtype"),
    [
        (TensorProto.INT4, ml_dtypes.int4),
        (TensorProto.UINT4, ml_dtypes.uint4),
        (TensorProto.FLOAT8E4M3FN, ml_dtypes.float8_e4m3fn),
        (TensorProto.FLOAT8E4M3FNUZ, ml_dtypes.float8_e4m3fnuz),
        (TensorProto.FLOAT8E5M2, ml_dtypes.float8_e5m2),
        (TensorProto.FLOAT8E5M2FNUZ, ml_dtypes.float8_e5m2fnuz),
    ],
)
def test_small_weights_are_bound_as_they_are(
    tmp_path: Path, element_type: int, dtype: type
) -> None:
    graph = Graph()
    small = np.random.default_rng(1).integers(0, 8, (WIDTH, 3 * WIDTH))
    numbers: Array = small.astype(dtype)
    held = graph.node("DequantizeLinear", graph.constant(numbers), graph.constant(np.float32(0.5)))
    graph.node("MatMul", graph.input("x", ["batch", WIDTH]), held, out="y")
    graph.output("y", ["batch", 3 * WIDTH])
    model = graph.model(opset=21, ir_version=10)
    assert model.graph.initializer[0].data_type == element_type
    x = np.eye(WIDTH, dtype=np.float32)
    specs = spec("x", "batch", WIDTH), spec("y", "batch", 3 * WIDTH)
    found = answer(model, tmp_path / "m.onnx", {"x": x}, specs)
    np.testing.assert_array_equal(found, numbers.astype(np.float32) / 2)


def test_strings_of_a_request_beside_weights(tmp_path: Path) -> None:
    graph = Graph()
    graph.input("words", ["batch", WIDTH], TensorProto.STRING)
    yes = graph.constant(np.array(["ja"], dtype=object))
    same = graph.node("Cast", graph.node("Equal", "words", yes), to=FLOAT)
    weight = np.diag(np.arange(WIDTH, dtype=np.float32))
    graph.node("MatMul", same, graph.constant(weight), out="y")
    graph.output("y", ["batch", WIDTH])
    words = np.full((2, WIDTH), "nein", dtype=object)
    words[1, 5] = "ja"
    specs = spec("words", "batch", WIDTH, dtype="string"), spec("y", "batch", WIDTH)
    found = answer(
        graph.model(opset=20, ir_version=9), tmp_path / "m.onnx", {"words": words}, specs
    )
    assert found[1, 5] == 5
    assert np.count_nonzero(found) == 1


def test_bfloat16_is_the_bits_that_it_came_as(tmp_path: Path) -> None:
    graph = Graph()
    graph.input("x", ["batch", WIDTH], TensorProto.BFLOAT16)
    wide = graph.node("Cast", "x", to=FLOAT)
    doubled = graph.node("MatMul", wide, graph.constant(2 * np.eye(WIDTH, dtype=np.float32)))
    graph.node("Cast", doubled, out="y", to=TensorProto.BFLOAT16)
    graph.output("y", ["batch", WIDTH], TensorProto.BFLOAT16)
    numbers = np.arange(2 * WIDTH).reshape(2, WIDTH).astype(ml_dtypes.bfloat16)
    specs = tuple(spec(name, "batch", WIDTH, dtype="bfloat16") for name in "xy")
    inputs = {"x": numbers.view(BFLOAT16)}
    specs[0].check(inputs["x"])
    found = answer(graph.model(), tmp_path / "m.onnx", inputs, specs)
    assert found.dtype == BFLOAT16
    np.testing.assert_array_equal(found.view(ml_dtypes.bfloat16), 2 * numbers)
    whole = WholeModel(tmp_path / "m.onnx", "none").run(inputs)["y"]
    np.testing.assert_array_equal(whole, found)
    none = WholeModel(tmp_path / "m.onnx", "none").run({"x": inputs["x"][:0]})["y"]
    assert none.shape == (0, WIDTH)


def test_bfloat16_input_of_another_type_is_refused() -> None:
    with pytest.raises(InputError, match="expected bfloat16, got float32"):
        spec("x", 2, dtype="bfloat16").check(np.zeros(2, np.float32))


def test_numbers_in_the_place_of_strings_are_refused() -> None:
    spec("x", 1, dtype="string").check(np.array(["text"], dtype=object))
    with pytest.raises(InputError, match="expected string, got float32"):
        spec("x", 1, dtype="string").check(np.zeros(1, np.float32))


@pytest.mark.parametrize(
    ("dtype", "elements", "expected"),
    [("int4", 3, 2), ("int4", 4, 2), ("uint2", 5, 2), ("float32", 3, 12), ("string", 9, 0)],
)
def test_packed_bytes(dtype: str, elements: int, expected: int) -> None:
    assert packed_bytes(dtype, elements) == expected
    assert packed_bytes(dtype, 0) == 0


def test_every_element_type_has_a_size() -> None:
    assert all(bits >= 0 for bits in ITEM_BITS.values())
    assert {name for name, bits in ITEM_BITS.items() if not bits} == {"string"}
