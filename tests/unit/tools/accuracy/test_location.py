"""A spoilt partition is traced to the operator, the number and the weight."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests import folders, models
from tests.graph import WIDTH
from tools.accuracy import location
from tools.accuracy.location import Location, locate
from tools.accuracy.readers import FolderReader
from tools.errors import ModelError
from tools.model_folder import open_folder

Spoil = Callable[[onnx.ModelProto], str]


def find(folder: Path, tolerance: float = 0.0) -> Location | None:
    opened = open_folder(folder)
    inputs = {"x": np.random.default_rng(1).standard_normal((2, WIDTH)).astype(np.float32)}
    return locate(opened, FolderReader(opened), inputs, tolerance)


def scale(path: Path, place: int, factor: float) -> str:
    """Multiplies one weight; gives its name."""
    model = onnx.load(path)
    weight = model.graph.initializer[place]
    array = numpy_helper.to_array(weight) * np.float32(factor)
    weight.CopyFrom(numpy_helper.from_array(array, weight.name))
    onnx.save(model, path)
    return str(weight.name)


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    """Twelve layers in three partitions."""
    return folders.make_folder(models.chain(12), tmp_path / "chain", count=3).path


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("window", [1, 3, 64])
def test_a_scaled_weight_is_named(
    chain: Path, place: int, window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(location, "WINDOW", window)
    weight = scale(chain / "001.onnx", place, 1.25)
    reader = next(
        node
        for node in onnx.load(chain / "001.onnx").graph.node
        if weight in node.input
    )  # fmt: skip
    found = find(chain)
    assert found is not None
    assert (found.partition, found.file) == (1, "001.onnx")
    assert (found.operator, found.op_type) == (reader.name, "MatMul")
    assert found.tensor == reader.output[0]
    assert repr(weight) in found.cause
    assert found.cause.endswith("each is 1.25 times the right one")
    element = found.element
    assert element is not None
    assert element.expected * 1.25 == pytest.approx(element.actual, rel=1e-5)
    assert element.ulps is not None
    assert element.ulps > 1
    for word in (reader.name, weight, "001.onnx", "expected", "ulps"):
        assert word in str(found)


def test_the_first_of_several_is_named(chain: Path) -> None:
    for file in ("002.onnx", "001.onnx"):
        for place in (3, 1):
            weight = scale(chain / file, place, 0.5)
    found = find(chain)
    assert found is not None
    assert found.file == "001.onnx"
    assert repr(weight) in found.cause


def test_equal_partitions_have_no_place(chain: Path) -> None:
    assert find(chain) is None


def test_within_the_tolerance_nothing_is_wrong(chain: Path) -> None:
    scale(chain / "000.onnx", 0, 1.0001)
    assert find(chain, tolerance=0.01) is None
    assert find(chain) is not None


def test_single_numbers(chain: Path) -> None:
    """One changed number is one changed number, not a scaled weight."""
    path = chain / "000.onnx"
    model = onnx.load(path)
    weight = model.graph.initializer[2]
    array = numpy_helper.to_array(weight).copy()
    array[3, 7] += 1
    array[4, 1] -= 0.25
    weight.CopyFrom(numpy_helper.from_array(array, weight.name))
    onnx.save(model, path)
    found = find(chain)
    assert found is not None
    assert f"{weight.name!r} isn't the whole model's: 2 of 1024 numbers differ" in found.cause
    assert "the furthest at [3, 7]" in found.cause
    assert "times" not in found.cause


@pytest.mark.parametrize(("name", "weight"), [("scan", "captured"), ("branches", None)])
def test_a_weight_that_only_an_inner_graph_reads(
    tmp_path: Path, name: str, weight: str | None
) -> None:
    path = folders.make_folder(models.MODELS[name](), tmp_path / "m").path
    model = onnx.load(path / "000.onnx")
    names = [each.name for each in model.graph.initializer]
    outer = {name for node in model.graph.node for name in node.input}
    weight = weight or next(each for each in names if each not in outer)
    scale(path / "000.onnx", names.index(weight), 3)
    found = find(path)
    assert found is not None
    assert f"its weight {weight!r} isn't the whole model's" in found.cause


def leaky(model: onnx.ModelProto) -> str:
    node = next(node for node in model.graph.node if node.op_type == "Relu")
    node.op_type = "LeakyRelu"
    node.attribute.append(onnx.helper.make_attribute("alpha", 0.5))
    return "the whole model has Relu in its place"


def renamed_weight(model: onnx.ModelProto) -> str:
    weight = model.graph.initializer[0]
    array = numpy_helper.to_array(weight) * np.float32(2)
    old = weight.name
    weight.CopyFrom(numpy_helper.from_array(array, "other"))
    for node in model.graph.node:
        node.input[:] = ["other" if name == old else name for name in node.input]
    return "its weight 'other' has no counterpart in the whole model"


@pytest.mark.parametrize("spoil", [leaky, renamed_weight])
def test_other_causes(chain: Path, spoil: Spoil) -> None:
    model = onnx.load(chain / "001.onnx")
    said = spoil(model)
    onnx.save(model, chain / "001.onnx")
    found = find(chain)
    assert found is not None
    assert found.file == "001.onnx"
    assert found.cause == said


def spoilt_reader(chain: Path) -> FolderReader:
    """Gives what a wrong second partition looks like to the runner."""
    copy = folders.copy(chain, chain.parent / "spoilt")
    scale(copy / "001.onnx", 0, 2)
    return FolderReader(open_folder(copy))


def test_a_difference_from_loading_is_not_blamed_on_an_operator(chain: Path) -> None:
    """The file is right; what the runner got isn't."""
    inputs = {"x": np.ones((1, WIDTH), np.float32)}
    found = locate(open_folder(chain), spoilt_reader(chain), inputs, 0.0)
    assert found is not None
    assert (found.partition, found.operator) == (1, "")
    assert "how the partition is stored or loaded" in found.cause


def test_a_file_that_is_no_model(chain: Path) -> None:
    reader = spoilt_reader(chain)
    (chain / "001.onnx").write_bytes(b"garbage")
    inputs = {"x": np.ones((1, WIDTH), np.float32)}
    with pytest.raises(ModelError, match=r"001\.onnx: can't be read"):
        locate(open_folder(chain), reader, inputs, 0.0)
