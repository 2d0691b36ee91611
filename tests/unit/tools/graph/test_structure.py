from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from app.tensors import aligned_buffer
from tests import models
from tests.graph import FLOAT, WIDTH, Graph
from tests.unusual_models import packed_weights
from tools.errors import ModelError
from tools.graph.structure import SMALLEST_WEIGHT_BYTES, separate


def test_structure_has_no_large_weight_and_the_buffer_all_of_them(tmp_path: Path) -> None:
    model = models.shared_weight()
    structure = separate(models.save(model, tmp_path / "m.onnx"), ["x"], ["y"])
    graph = onnx.load_model_from_string(structure.graph).graph
    assert all(len(t.raw_data) < SMALLEST_WEIGHT_BYTES for t in graph.initializer)
    assert len(graph.input) == 1 + len(structure.weights)
    buffer = aligned_buffer(structure.weights_bytes)
    buffer[:] = 0xAA
    structure.fill(buffer)
    arrays = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    covered = np.zeros(structure.weights_bytes, dtype=bool)
    for weight in structure.weights:
        end = weight.offset + weight.size_bytes
        assert weight.offset % 64 == 0
        assert buffer[weight.offset : end].tobytes() == arrays[weight.name].tobytes()
        assert not covered[weight.offset : end].any(), "weights don't overlap"
        covered[weight.offset : end] = True
    assert not buffer[~covered].any(), "gaps are zero, not old memory"


@pytest.mark.parametrize(("size", "kept"), [(255, 1), (256, 0)])
def test_small_initializers_stay_constants(tmp_path: Path, size: int, kept: int) -> None:
    graph = Graph()
    graph.node("Add", graph.input("x", [size]), graph.weight(size), out="y")
    graph.output("y", [size])
    structure = separate(models.save(graph.model(), tmp_path / "m.onnx"), ["x"], ["y"])
    assert len(onnx.load_model_from_string(structure.graph).graph.initializer) == kept
    assert len(structure.weights) == 1 - kept


def test_loaded_structure_needs_its_file_no_more(tmp_path: Path) -> None:
    path = models.save(models.chain(), tmp_path / "m.onnx")
    expected, found = (aligned_buffer(4 * 4096) for _ in range(2))
    separate(path, ["x"], ["y"]).fill(expected)
    structure = separate(path, ["x"], ["y"]).loaded()
    path.unlink()
    structure.fill(found)
    assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("content", [None, b"no model"])
def test_file_that_is_no_model(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "000.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match="can't be read"):
        separate(path, ["x"], ["y"])


def test_packed_weights_take_the_bytes_that_they_have(tmp_path: Path) -> None:
    path = models.save(packed_weights(), tmp_path / "m.onnx")
    structure = separate(path, ["x"], ["y"])
    assert [(w.dtype, w.size_bytes) for w in structure.weights] == [
        ("int4", WIDTH * 96 // 2),
        ("float8e4m3fn", WIDTH * 96),
    ]
    buffer = aligned_buffer(structure.weights_bytes)
    structure.fill(buffer)
    raw = [t.raw_data for t in onnx.load(path).graph.initializer if len(t.raw_data) > 99]
    assert buffer.tobytes() == b"".join(raw)


def test_element_type_that_nobody_knows(tmp_path: Path) -> None:
    graph = Graph()
    graph.node("Cast", "w", out="y", to=FLOAT)
    graph.output("y", [2048])
    model = graph.model()
    kind = onnx.TensorProto.DataType.Value("FLOAT6E2M3")
    model.graph.initializer.add(name="w", data_type=kind, dims=[2048], raw_data=bytes(2048))
    with pytest.raises(ModelError, match="weight 'w' has the element type"):
        separate(models.save(model, tmp_path / "m.onnx"), [], ["y"])
