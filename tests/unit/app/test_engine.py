from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from app.engine import EngineError, OrtEngine, WholeModel, optimize
from app.manifest import OPTIMIZATIONS, PartitionLayout
from app.tensors import BFLOAT16, aligned_buffer
from tests import models
from tests.fakes import layout, spec
from tests.graph import WIDTH
from tools.graph.structure import separate

EMPTY = layout((), ())
Partition = tuple[bytes, PartitionLayout, NDArray[np.uint8]]


X, Y = spec("x", "batch", WIDTH), spec("y", "batch", WIDTH)


@pytest.fixture
def partition(tmp_path: Path) -> Partition:
    path = models.save(models.chain(1), tmp_path / "chain.onnx")
    structure = separate(path, ["x"], ["y"])
    weights = aligned_buffer(structure.weights_bytes)
    structure.fill(weights)
    return structure.graph, replace(layout([X], [Y]), weights=structure.weights), weights


def test_weights_are_read_where_they_lie(partition: Partition) -> None:
    """What changes in the buffer changes the next answer: there is no copy of the weights."""
    graph, wiring, weights = partition
    engine = OrtEngine()
    session = engine.open(graph, wiring)
    ones = engine.wrap(np.ones((2, WIDTH), np.float32))
    first = engine.unwrap(session.run({"x": ones}, weights)["y"]).copy()
    assert first.any()
    weights[:] = 0
    assert not engine.unwrap(session.run({"x": ones}, weights)["y"]).any()


def test_session_works_after_an_error(partition: Partition) -> None:
    graph, wiring, weights = partition
    engine = OrtEngine()
    session = engine.open(graph, wiring)
    wrong = engine.wrap(np.ones((2, 5), np.float32))
    right = engine.wrap(np.ones((2, WIDTH), np.float32))
    for values in ({"x": wrong}, {}):
        with pytest.raises(EngineError):
            session.run(values, weights)
    assert session.run({"x": right}, weights).keys() == {"y"}


@pytest.mark.parametrize("graph", [b"", b"no graph", onnx.ModelProto().SerializeToString()])
def test_graph_that_is_none(graph: bytes) -> None:
    with pytest.raises(EngineError):
        OrtEngine().open(graph, EMPTY)


def test_whole_model_refuses_wrong_inputs(tmp_path: Path) -> None:
    model = WholeModel(models.save(models.chain(), tmp_path / "m.onnx"), "none")
    with pytest.raises(EngineError):
        model.run({"x": np.zeros((1, 2), np.float32)})
    with pytest.raises(EngineError):
        model.run({"z": np.zeros((1, 2), np.float32)})


@pytest.mark.parametrize("optimization", OPTIMIZATIONS)
def test_optimised_model_computes_the_same(tmp_path: Path, optimization: str) -> None:
    source = models.save(models.residual(), tmp_path / "m.onnx")
    optimize(source.read_bytes(), tmp_path, tmp_path / "optimised.onnx", optimization)
    inputs = models.inputs_for(models.residual())
    expected = WholeModel(source, "none").run(inputs)["y"]
    found = WholeModel(tmp_path / "optimised.onnx", "none").run(inputs)["y"]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_sizes_of_values() -> None:
    engine = OrtEngine()
    assert engine.size_bytes(engine.wrap(np.zeros((2, 3), np.float64))) == 48
    assert engine.size_bytes(engine.wrap(np.zeros((0, 3), np.float64))) == 0


def test_names_of_a_graph_do_not_matter_its_order_does(partition: Partition) -> None:
    """Structures have forgotten the model's names; the layout has the runner's."""
    graph, wiring, weights = partition
    renamed = replace(
        wiring,
        inputs=(replace(X, name="this"),),
        outputs=(replace(Y, name="that"),),
        weights=tuple(replace(weight, name="any") for weight in wiring.weights),
    )
    engine = OrtEngine()
    value = engine.wrap(np.ones((2, WIDTH), np.float32))
    expected = engine.open(graph, wiring).run({"x": value}, weights)["y"]
    found = engine.open(graph, renamed).run({"this": value}, weights)
    assert found.keys() == {"that"}
    assert engine.unwrap(found["that"]).tobytes() == engine.unwrap(expected).tobytes()


@pytest.mark.parametrize(
    "change",
    [
        {"inputs": (X, X)},
        {"inputs": ()},
        {"outputs": ()},
        {"outputs": (Y, Y)},
        {"weights": ()},
    ],
)
def test_graph_that_does_not_fit_its_layout(partition: Partition, change: dict[str, Any]) -> None:
    graph, wiring, _ = partition
    with pytest.raises(EngineError, match="inputs and outputs, the graph has"):
        OrtEngine().open(graph, replace(wiring, **change))


def test_equal_graphs_share_a_session_and_nothing_else(
    partition: Partition, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, wiring, weights = partition
    opened = 0
    original = onnxruntime.InferenceSession

    def count(*arguments: Any, **options: Any) -> Any:
        nonlocal opened
        opened += 1
        return original(*arguments, **options)

    monkeypatch.setattr("app.engine.ort.InferenceSession", count)
    engine = OrtEngine()
    first, second = engine.open(graph, wiring), engine.open(bytes(bytearray(graph)), wiring)
    assert opened == 1
    other_weights = aligned_buffer(weights.nbytes)
    other_weights[:] = 0
    ones = engine.wrap(np.ones((2, WIDTH), np.float32))
    for _ in range(2):
        assert engine.unwrap(first.run({"x": ones}, weights)["y"]).any()
        assert not engine.unwrap(second.run({"x": ones}, other_weights)["y"]).any()
    other = onnx.load_model_from_string(graph)
    other.producer_name = "another"
    engine.open(other.SerializeToString(), wiring)
    assert opened == 2, "other bytes, another session"


def test_one_session_reads_every_buffer_its_weights_come_in(partition: Partition) -> None:
    """Slots change from request to request; what is bound for one must not answer for another."""
    graph, wiring, weights = partition
    engine = OrtEngine()
    session = engine.open(graph, wiring)
    ones = engine.wrap(np.ones((1, WIDTH), np.float32))
    slots = [aligned_buffer(weights.nbytes) for _ in range(3)]
    for scale, slot in enumerate(slots):
        slot.view(np.float32)[:] = weights.view(np.float32) * scale
    answers = [engine.unwrap(session.run({"x": ones}, slot)["y"]).copy() for slot in slots * 2]
    for scale, answer in enumerate(answers):
        np.testing.assert_allclose(answer, answers[1] * (scale % 3), rtol=1e-6)
    assert answers[1].any()


def test_outputs_outlive_the_next_run(partition: Partition) -> None:
    graph, wiring, weights = partition
    engine = OrtEngine()
    session = engine.open(graph, wiring)
    first = session.run({"x": engine.wrap(np.ones((1, WIDTH), np.float32))}, weights)["y"]
    before = engine.unwrap(first).copy()
    session.run({"x": engine.wrap(np.full((1, WIDTH), 9, np.float32))}, weights)
    assert engine.unwrap(first).tobytes() == before.tobytes()


def test_a_run_leaves_none_of_its_tensors_bound(partition: Partition) -> None:
    graph, wiring, weights = partition
    engine = OrtEngine()
    session = engine.open(graph, wiring)
    array = np.ones((1, WIDTH), np.float32)
    before = sys.getrefcount(array)
    session.run({"x": engine.wrap(array)}, weights)
    assert sys.getrefcount(array) == before


@pytest.mark.parametrize("prepack", [False, True])
def test_whole_model_from_bytes_is_that_from_its_file(tmp_path: Path, prepack: bool) -> None:
    model = models.residual()
    path = models.save(model, tmp_path / "m.onnx")
    inputs = models.inputs_for(model)
    found = WholeModel(path.read_bytes(), "none", prepack=prepack).run(inputs)["y"]
    expected = WholeModel(path, "none", prepack=prepack).run(inputs)["y"]
    assert found.tobytes() == expected.tobytes()


def test_bfloat16_goes_through_the_engine() -> None:
    """numpy doesn't know it, onnxruntime gives no array of it: the bits do."""
    engine = OrtEngine()
    for shape in ((2, 2), (0, 2), ()):
        array = np.full(shape, 0x3F80, np.uint16).reshape(-1).view(BFLOAT16).reshape(shape)
        value = engine.wrap(array)
        assert value.ort_value is not None
        assert value.ort_value.data_type() == "tensor(bfloat16)"
        assert engine.size_bytes(value) == array.nbytes
        found = engine.unwrap(value)
        assert (found.dtype, found.shape) == (array.dtype, array.shape)
        assert found.tobytes() == array.tobytes()
