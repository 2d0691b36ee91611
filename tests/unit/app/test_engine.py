from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from app.engine import EngineError, OrtEngine, WholeModel, optimize
from app.manifest import OPTIMIZATIONS, PartitionLayout
from app.tensors import aligned_buffer
from tests import models
from tests.fakes import spec
from tests.graph import WIDTH
from tools.bundling.writer import prepare_structure

EMPTY = PartitionLayout((), (), (), (), 0, 0)


@pytest.fixture
def partition(
    tmp_path: Path,
) -> tuple[bytes, PartitionLayout, np.ndarray[tuple[int], np.dtype[np.uint8]]]:
    path = models.save(models.chain(1), tmp_path / "chain.onnx")
    structure = prepare_structure(path, "none")
    x, y = spec("x", "batch", WIDTH), spec("y", "batch", WIDTH)
    weights = aligned_buffer(structure.weights_bytes)
    structure.fill(weights)
    return structure.graph, PartitionLayout((x,), (y,), (), structure.weights, 0, 0), weights


def test_weights_are_read_where_they_lie(
    partition: tuple[bytes, PartitionLayout, np.ndarray[tuple[int], np.dtype[np.uint8]]],
) -> None:
    """What changes in the buffer changes the next answer: there is no copy of the weights."""
    graph, layout, weights = partition
    engine = OrtEngine()
    session = engine.open(graph, layout)
    ones = engine.wrap(np.ones((2, WIDTH), np.float32))
    first = engine.unwrap(session.run({"x": ones}, weights)["y"]).copy()
    assert first.any()
    weights[:] = 0
    assert not engine.unwrap(session.run({"x": ones}, weights)["y"]).any()


def test_session_works_after_an_error(
    partition: tuple[bytes, PartitionLayout, np.ndarray[tuple[int], np.dtype[np.uint8]]],
) -> None:
    graph, layout, weights = partition
    engine = OrtEngine()
    session = engine.open(graph, layout)
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
    optimize(source, tmp_path / "optimised.onnx", optimization)
    inputs = models.inputs_for(models.residual())
    expected = WholeModel(source, "none").run(inputs)["y"]
    found = WholeModel(tmp_path / "optimised.onnx", "none").run(inputs)["y"]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_sizes_of_values() -> None:
    engine = OrtEngine()
    assert engine.size_bytes(engine.wrap(np.zeros((2, 3), np.float64))) == 48
    assert engine.size_bytes(engine.wrap(np.zeros((0, 3), np.float64))) == 0
