from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from app.engine import WholeModel
from tests import models
from tests.graph import Graph
from tools.errors import ModelError
from tools.graph.extract import write_with_outputs
from tools.graph.load import load_model


def spoil(change: Callable[[onnx.ModelProto], object]) -> bytes:
    model = models.chain(1)
    change(model)
    return bytes(model.SerializeToString())


def shape_of(value: onnx.ValueInfoProto) -> onnx.TensorShapeProto:
    return value.type.tensor_type.shape


def recursive() -> bytes:
    model = models.function()
    body = model.functions[0]
    body.node[0].CopyFrom(helper.make_node("Doubled", ["a"], ["b"], domain="tests"))
    body.opset_import.append(helper.make_opsetid("tests", 1))
    return bytes(model.SerializeToString())


RECURSIVE = recursive()
RAW = models.chain(1).SerializeToString()
FILES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "the file is empty"),
    "text": (b"hello, this is text", "not an ONNX model|not a valid ONNX model"),
    "zeros": (bytes(100), "not an ONNX model|not a valid ONNX model"),
    "truncated early": (RAW[:20], "not an ONNX model|not a valid ONNX model"),
    "truncated": (RAW[: len(RAW) // 2], "not an ONNX model|not a valid ONNX model"),
    "truncated late": (RAW[:-1], "not an ONNX model|not a valid ONNX model"),
    "unknown operator": (
        spoil(lambda m: setattr(m.graph.node[0], "op_type", "Nonsense")),
        "not a valid ONNX model",
    ),
    "undefined input": (
        spoil(lambda m: m.graph.node[0].input.__setitem__(0, "nowhere")),
        r"operator 'MatMul_v2' \(MatMul\) reads 'nowhere', which isn't an input, an initializer",
    ),
    "missing initializer": (
        spoil(lambda m: m.graph.initializer.pop()),
        r"operator 'MatMul_v2' \(MatMul\) reads 'c1', which isn't an input, an initializer",
    ),
    "cycle": (
        spoil(lambda m: m.graph.node[0].input.__setitem__(0, "y")),
        r"operator 'MatMul_v2' \(MatMul\) waits for itself: the graph has a cycle",
    ),
    "unordered": (
        spoil(lambda m: m.graph.node.reverse()),
        r"operator 'Relu_y' \(Relu\) stands before one that it reads from",
    ),
    "value made twice": (
        spoil(lambda m: m.graph.node[1].output.__setitem__(0, "v2")),
        "'v2' has been used as output names multiple times|'y' is not an output of any node",
    ),
    "output that nothing makes": (
        spoil(lambda m: setattr(m.graph.output[0], "name", "nowhere")),
        "'nowhere' is not an output of any node",
    ),
    "wrong shape": (
        spoil(lambda m: m.graph.initializer[0].dims.__setitem__(0, 31)),
        "not a valid ONNX model: .*shape.* export it again",
    ),
    "contradictory shapes": (
        spoil(lambda m: setattr(shape_of(m.graph.output[0]).dim[1], "dim_value", 7)),
        r"differ in dimension 1: \(32\) vs \(7\)",
    ),
    "contradictory ranks": (
        spoil(lambda m: shape_of(m.graph.output[0]).dim.add()),
        "differ in rank",
    ),
    "contradictory types": (
        spoil(lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", 7)),
        "inconsistent type",
    ),
    "function that calls itself": (RECURSIVE, "must not be recursive"),
    "unknown opset": (
        spoil(lambda m: setattr(m.opset_import[0], "version", 99)),
        "made for opset 99, but onnx .* knows opsets up to .*; export the model with an older one",
    ),
    "no opset": (spoil(lambda m: m.ClearField("opset_import")), "must specify opset_import"),
    "unknown format": (
        spoil(lambda m: setattr(m, "ir_version", 99)),
        "of IR version 99, but onnx .* knows versions up to .*; export the model with an older one",
    ),
    "domain without a version": (
        spoil(lambda m: setattr(m.graph.node[0], "domain", "com.acme")),
        "No opset import for domain 'com.acme'",
    ),
    "no operators": (
        spoil(lambda m: (m.graph.ClearField("node"), m.graph.ClearField("output"))),
        "no operators|not a valid ONNX model",
    ),
}


@pytest.mark.parametrize("kind", FILES)
def test_file_that_is_no_model(tmp_path: Path, kind: str) -> None:
    raw, said = FILES[kind]
    path = tmp_path / "m.onnx"
    path.write_bytes(raw)
    with pytest.raises(ModelError, match=said) as error:
        load_model(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_no_file_at_all(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="expected an ONNX file, got a folder"):
        load_model(tmp_path)
    with pytest.raises(ModelError, match="No such file"):
        load_model(tmp_path / "nothing.onnx")


@pytest.mark.parametrize("change", ["missing", "cut off", "outside", "absolute", "link outside"])
def test_external_data_that_cannot_be_had(tmp_path: Path, change: str) -> None:
    folder = tmp_path / "model"
    path = models.save_external(models.chain(), folder / "m.onnx")
    data = folder / "weights.bin"
    if change == "missing":
        data.unlink()
    elif change == "cut off":
        data.write_bytes(data.read_bytes()[:-1])
    elif change == "link outside":
        data.rename(tmp_path / "weights.bin")
        data.symlink_to(tmp_path / "weights.bin")
    else:
        outside = data.rename(tmp_path / "weights.bin")
        location = str(outside) if change == "absolute" else "../weights.bin"
        model = onnx.load(path, load_external_data=False)
        for tensor in model.graph.initializer:
            next(e for e in tensor.external_data if e.key == "location").value = location
        path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=r"weights\.bin") as error:
        load_model(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("name", models.MODELS)
def test_normalising_changes_no_result(tmp_path: Path, name: str) -> None:
    model = models.MODELS[name]()
    path = models.save(model, tmp_path / "m.onnx")
    loaded = load_model(path)
    inner = [v.name or "" for v in loaded.graph.outputs if not v.is_graph_input()]
    write_with_outputs(loaded, inner, tmp_path / "normalised.onnx")
    inputs = models.inputs_for(model)
    expected = WholeModel(path, "none").run(inputs)
    used = {value.name for value in loaded.graph.inputs}
    assert used == set(inputs)
    found = WholeModel(tmp_path / "normalised.onnx", "none").run(inputs)
    for output in inner:
        np.testing.assert_array_equal(found[output], expected[output])


def test_inputs_and_outputs_keep_their_names_and_order(tmp_path: Path) -> None:
    graph = load_model(models.save(models.passthrough(), tmp_path / "m.onnx")).graph
    assert [value.name for value in graph.inputs] == ["x"]
    assert [value.name for value in graph.outputs] == ["y", "x", "table"]


def test_every_node_has_a_name(tmp_path: Path) -> None:
    graph = load_model(models.save(models.unnamed_nodes(), tmp_path / "m.onnx")).graph
    names = [node.name for node in graph]
    assert names[:2] == ["MatMul_0", "Relu_1"]
    assert len(set(names)) == len(names)


def test_nodes_that_nothing_needs_are_gone(tmp_path: Path) -> None:
    model = models.chain(1)
    model.graph.node.append(helper.make_node("Neg", ["x"], ["dead"], name="dead"))
    graph = load_model(models.save(model, tmp_path / "m.onnx")).graph
    assert "dead" not in {node.name for node in graph}


def test_sequence_stays_a_sequence(tmp_path: Path) -> None:
    graph = load_model(models.save(models.sequence(), tmp_path / "m.onnx")).graph
    [sequence] = [node.outputs[0] for node in graph if node.op_type == "SequenceConstruct"]
    assert "Sequence" in str(sequence.type)


def test_model_that_is_only_an_input(tmp_path: Path) -> None:
    graph = Graph()
    graph.input("x", [1])
    graph.output("x", [1])
    graph.node("Neg", "x")
    with pytest.raises(ModelError, match="no operators"):
        load_model(models.save(graph.model(), tmp_path / "m.onnx"))


def test_external_data_is_found(tmp_path: Path) -> None:
    path = models.save_external(models.chain(), tmp_path / "m.onnx")
    assert path.stat().st_size < 4096 < (tmp_path / "weights.bin").stat().st_size
    graph = load_model(path).graph
    assert all(value.const_value is not None for value in graph.initializers.values())
