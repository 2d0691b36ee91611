"""Reading without copying weights gives the model that an ordinary parser reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from tests import models
from tests.graph import Graph
from tools.graph.mapped import map_external, read_light, read_mapped

TYPES = (
    TensorProto.FLOAT,
    TensorProto.FLOAT16,
    TensorProto.BFLOAT16,
    TensorProto.INT8,
    TensorProto.INT64,
    TensorProto.BOOL,
    TensorProto.DOUBLE,
)


def of_type(data_type: int, raw: bool = True) -> onnx.ModelProto:
    """A model with one large weight, as raw bytes or as a list of numbers."""
    graph = Graph()
    tensor = helper.make_tensor("w", data_type, [2048], np.arange(2048) % 2, raw=False)
    if raw:
        tensor = numpy_helper.from_array(numpy_helper.to_array(tensor), "w")
    graph.node("Cast", "w", out="y", to=TensorProto.FLOAT)
    graph.output("y", [2048])
    model = graph.model()
    model.graph.initializer.append(tensor)
    return model


@pytest.mark.parametrize("data_type", TYPES)
@pytest.mark.parametrize("raw", [False, True])
def test_weights_are_those_of_the_file(tmp_path: Path, data_type: int, raw: bool) -> None:
    model = of_type(data_type, raw)
    path = models.save(model, tmp_path / "m.onnx")
    mapped = read_mapped(path)
    assert len(mapped.own) == int(raw), "numbers in a list stay where they are"
    found = mapped.to_ir().graph.initializers["w"].const_value
    assert found is not None
    assert found.tobytes() == numpy_helper.to_array(model.graph.initializer[0]).tobytes()


def test_only_the_bytes_of_weights_are_left_out(tmp_path: Path) -> None:
    model = models.residual()
    path = models.save(model, tmp_path / "m.onnx")
    mapped = read_mapped(path)
    assert mapped.own
    assert not mapped.has_external
    small = mapped.proto
    assert small.ByteSize() < path.stat().st_size / 2
    assert small.SerializeToString() == read_light(path)
    for index in mapped.own:
        data = {each.key: each.value for each in small.graph.initializer[index].external_data}
        start, length = int(data["offset"]), int(data["length"])
        assert data["location"] == "m.onnx"
        assert path.read_bytes()[start:][:length] == model.graph.initializer[index].raw_data
        small.graph.initializer[index].CopyFrom(model.graph.initializer[index])
    assert small == model


def test_weights_stay_valid_when_the_file_is_gone(tmp_path: Path) -> None:
    path = models.save(models.chain(), tmp_path / "m.onnx")
    expected = {i.name: numpy_helper.to_array(i) for i in models.chain().graph.initializer}
    model = read_mapped(path).to_ir()
    path.unlink()
    for name, value in model.graph.initializers.items():
        assert value.const_value is not None
        assert np.array_equal(value.const_value.numpy(), expected[name])


def test_external_files_are_mapped_once_each(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(models.chain(), path, save_as_external_data=True, location="w.bin", size_threshold=0)
    mapped = read_mapped(path)
    assert mapped.own == ()
    assert mapped.has_external
    model = mapped.to_ir()
    map_external(model)
    (tmp_path / "w.bin").unlink()
    for tensor in models.chain().graph.initializer:
        found = model.graph.initializers[tensor.name].const_value
        assert found is not None
        assert found.tobytes() == numpy_helper.to_array(tensor).tobytes()


def test_weight_of_another_size_than_its_shape_says(tmp_path: Path) -> None:
    model = of_type(TensorProto.FLOAT)
    model.graph.initializer[0].dims[0] = 2000
    mapped = read_mapped(models.save(model, tmp_path / "m.onnx"))
    with pytest.raises(onnx.checker.ValidationError, match="8192 bytes"):
        mapped.without_weights()


def test_checked_without_weights_the_rest_is_there(tmp_path: Path) -> None:
    mapped = read_mapped(models.save(models.residual(), tmp_path / "m.onnx"))
    proto = mapped.without_weights()
    onnx.checker.check_model(proto, full_check=True)
    assert [node.name for node in proto.graph.node] == [
        node.name for node in models.residual().graph.node
    ]
    given = {value.name for value in proto.graph.input}
    assert {mapped.proto.graph.initializer[index].name for index in mapped.own} <= given


WHOLE = models.chain().SerializeToString()


@settings(max_examples=150)
@given(st.integers(0, len(WHOLE) - 1), st.integers(0, 255), st.booleans())
def test_damaged_file_is_refused_or_read_as_an_ordinary_parser_reads_it(
    tmp_path_factory: pytest.TempPathFactory, place: int, byte: int, cut_off: bool
) -> None:
    raw = WHOLE[: place + 1] if cut_off else WHOLE[:place] + bytes([byte]) + WHOLE[place + 1 :]
    path = tmp_path_factory.mktemp("damaged") / "m.onnx"
    path.write_bytes(raw)
    try:
        found = read_mapped(path).proto
    except DecodeError:
        return
    expected = onnx.ModelProto.FromString(raw)
    assert [i.name for i in found.graph.initializer] == [i.name for i in expected.graph.initializer]
    assert [n.op_type for n in found.graph.node] == [n.op_type for n in expected.graph.node]
