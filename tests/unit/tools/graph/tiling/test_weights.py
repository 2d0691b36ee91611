"""Tiles give bit for bit what the operator gave before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from app.engine import WholeModel
from tests import models
from tests.graph import Graph
from tools.graph.extract import save_model
from tools.graph.load import load_model
from tools.graph.tiling.weights import Tiling, tile_weights


def tiled(
    model: onnx.ModelProto, folder: Path, largest_bytes: int
) -> tuple[list[Tiling], onnx.ModelProto]:
    loaded = load_model(models.save(model, folder / "whole.onnx"))
    found = tile_weights(loaded, largest_bytes)
    save_model(loaded, folder / "tiled.onnx")
    return found, onnx.load(folder / "tiled.onnx")


def check_equal(model: onnx.ModelProto, folder: Path, batch: int) -> None:
    inputs = models.inputs_for(model, batch)
    expected = WholeModel(folder / "whole.onnx", "none").run(inputs)
    found = WholeModel(folder / "tiled.onnx", "none").run(inputs)
    assert expected.keys() == found.keys()
    for name, array in expected.items():
        assert found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes(), name


def gemm(inner: int, columns: int, bias: int | None = None, **attributes: Any) -> onnx.ModelProto:
    graph = Graph()
    shape = (columns, inner) if attributes.get("transB") else (inner, columns)
    inputs = [graph.input("x", ["batch", inner]), graph.weight(*shape)]
    if bias is not None:
        inputs.append(graph.weight(bias))
    graph.node("Gemm", *inputs, out="y", **attributes)
    graph.output("y", ["batch", columns])
    return graph.model()


def matmul(inner: int, columns: int, *middle: int) -> onnx.ModelProto:
    graph = Graph()
    value = graph.input("x", ["batch", *middle, inner])
    graph.node("Tanh", graph.node("MatMul", value, graph.weight(inner, columns)), out="y")
    graph.output("y", ["batch", *middle, columns])
    return graph.model()


def conv(
    channels: int,
    filters: int,
    side: int,
    *,
    bias: bool = False,
    kernel: int = 3,
    groups: int = 1,
    **attributes: Any,
) -> onnx.ModelProto:
    graph = Graph()
    shape = (filters, channels // groups, kernel, kernel)
    inputs = [graph.input("x", ["batch", channels, side, side]), graph.weight(*shape)]
    if bias:
        inputs.append(graph.weight(filters))
    graph.node("Relu", graph.node("Conv", *inputs, group=groups, **attributes), out="y")
    graph.output("y", ["batch", filters, None, None])
    return graph.model()


def transposed(
    channels: int,
    filters: int,
    side: int,
    *,
    bias: bool = False,
    kernel: int = 3,
    groups: int = 1,
    **attributes: Any,
) -> onnx.ModelProto:
    graph = Graph()
    shape = (channels, filters // groups, kernel, kernel)
    inputs = [graph.input("x", ["batch", channels, side, side]), graph.weight(*shape)]
    if bias:
        inputs.append(graph.weight(filters))
    value = graph.node("ConvTranspose", *inputs, group=groups, **attributes)
    graph.node("Relu", value, out="y")
    graph.output("y", ["batch", filters, None, None])
    return graph.model()


TILED: dict[str, Callable[[], onnx.ModelProto]] = {
    "gemm": lambda: gemm(64, 256),
    "gemm transposed": lambda: gemm(64, 256, transB=1),
    "gemm with bias": lambda: gemm(64, 256, 256, alpha=0.5, beta=2.0),
    "gemm with one bias": lambda: gemm(64, 256, 1, transB=1),
    "gemm of odd size": lambda: gemm(67, 233, 233),
    "gemm deep": lambda: gemm(1031, 229, 229),
    "gemm deep and transposed": lambda: gemm(1031, 229, transB=1),
    "gemm very deep": lambda: gemm(4099, 197),
    "gemm deep and wide": lambda: gemm(300, 1000, 1000),
    "matmul": lambda: matmul(64, 256),
    "matmul of odd size": lambda: matmul(33, 301),
    "matmul of rank 3": lambda: matmul(64, 200, 7),
    "matmul of rank 4": lambda: matmul(48, 130, 3, 5),
    "matmul deep": lambda: matmul(777, 250, 5),
    "conv": lambda: conv(8, 64, 9),
    "conv with bias": lambda: conv(8, 64, 9, bias=True, pads=[1, 1, 1, 1]),
    "conv of odd size": lambda: conv(5, 61, 7, bias=True, strides=[2, 2]),
    "conv pointwise": lambda: conv(130, 70, 6, kernel=1),
    "conv deep": lambda: conv(150, 97, 4, bias=True),
    "conv in groups": lambda: conv(64, 64, 9, groups=8, bias=True),
    "conv in large groups": lambda: conv(64, 128, 5, groups=2, bias=True),
    "conv depthwise": lambda: conv(64, 64, 9, groups=64, kernel=7),
    "conv depthwise twice": lambda: conv(32, 64, 9, groups=32, bias=True, pads=[1, 1, 1, 1]),
    "conv transposed": lambda: transposed(32, 48, 5, bias=True),
    "conv transposed and padded": lambda: transposed(
        24, 64, 6, kernel=4, strides=[2, 2], pads=[1, 1, 1, 1]
    ),
    "conv transposed in groups": lambda: transposed(32, 64, 5, groups=4, bias=True),
    "conv transposed in large groups": lambda: transposed(32, 64, 5, groups=2, dilations=[2, 2]),
    "conv dilated": lambda: conv(6, 50, 11, dilations=[2, 2]),
}


@pytest.mark.parametrize("part", [3, 7])
@pytest.mark.parametrize("batch", [1, 2, 5])
@pytest.mark.parametrize("name", TILED)
def test_tiles_compute_the_same_bits(name: str, batch: int, part: int, tmp_path: Path) -> None:
    model = TILED[name]()
    weights = max(len(each.raw_data) for each in model.graph.initializer)
    found, written = tiled(model, tmp_path, weights // part)
    assert len(found) == 1
    assert found[0].tiles >= 2
    kept = max(onnx.numpy_helper.to_array(each).nbytes for each in written.graph.initializer)
    assert kept < weights
    onnx.checker.check_model(written, full_check=True)
    check_equal(model, tmp_path, batch)


def several(shared: str) -> onnx.ModelProto:
    """Two operators that read the same weight, or the same bias."""
    graph = Graph()
    weights = [graph.weight(64, 64) for _ in range(2)]
    biases = [graph.weight(64) for _ in range(2)]
    if shared == "weight":
        weights[1] = weights[0]
    if shared == "bias":
        biases[1] = biases[0]
    value = graph.input("x", ["batch", 64])
    value = graph.node("Gemm", value, weights[0], biases[0])
    graph.node("Gemm", value, weights[1], biases[1], out="y")
    graph.output("y", ["batch", 64])
    return graph.model()


@pytest.mark.parametrize("shared", ["nothing", "weight", "bias"])
def test_weights_that_two_operators_read(shared: str, tmp_path: Path) -> None:
    model = several(shared)
    found, written = tiled(model, tmp_path, 4096)
    assert len(found) == 2
    check_equal(model, tmp_path, 3)
    sizes = {each.name: len(each.raw_data) for each in written.graph.initializer}
    assert sum(size for size in sizes.values() if size > 256) == (
        64 * 64 * 4 * (1 if shared == "weight" else 2)
    ), "no weight twice, none left over"


def test_output_that_is_read_on(tmp_path: Path) -> None:
    graph = Graph()
    first = graph.node("MatMul", graph.input("x", ["batch", 64]), graph.weight(64, 64), out="first")
    graph.node("Relu", first, out="y")
    for name in ("first", "y"):
        graph.output(name, ["batch", 64])
    found, _ = tiled(graph.model(), tmp_path, 4096)
    assert found == [Tiling("MatMul_first", "MatMul", 4)]
    check_equal(graph.model(), tmp_path, 2)


def matmul_from_the_left() -> onnx.ModelProto:
    graph = Graph()
    graph.node("MatMul", graph.weight(64, 64), graph.input("x", [64, 8]), out="y")
    graph.output("y", [64, 8])
    return graph.model()


def matmul_batched() -> onnx.ModelProto:
    graph = Graph()
    graph.node("MatMul", graph.input("x", [2, 3, 64]), graph.weight(2, 64, 64), out="y")
    graph.output("y", [2, 3, 64])
    return graph.model()


def gemm_with_matrix() -> onnx.ModelProto:
    graph = Graph()
    inputs = [graph.input("x", [2, 64]), graph.weight(64, 64), graph.weight(2, 64)]
    graph.node("Gemm", *inputs, out="y")
    graph.output("y", [2, 64])
    return graph.model()


def gemm_with_computed_bias() -> onnx.ModelProto:
    graph = Graph()
    inputs = [graph.input("x", [2, 64]), graph.weight(64, 64), graph.input("c", [64])]
    graph.node("Gemm", *inputs, out="y")
    graph.output("y", [2, 64])
    return graph.model()


STAYING: dict[str, Callable[[], onnx.ModelProto]] = {
    "weight on the left": matmul_from_the_left,
    "weight of rank 3": matmul_batched,
    "bias of rank 2": gemm_with_matrix,
    "bias that is computed": gemm_with_computed_bias,
    "narrow": lambda: gemm(64, 16),
    "narrow for its depth": lambda: gemm(129, 96),
    "small": lambda: gemm(16, 16),
    "another operator": models.many_inputs,
}


@pytest.mark.parametrize("name", STAYING)
def test_what_cannot_be_tiled_stays_as_it_is(name: str, tmp_path: Path) -> None:
    model = STAYING[name]()
    largest_bytes = {"another operator": 5000, "narrow for its depth": 20000}.get(name, 2048)
    before = [node.op_type for node in model.graph.node]
    found, written = tiled(model, tmp_path, largest_bytes)
    assert all(each.tiles == 1 and each.reason for each in found)
    assert [node.op_type for node in written.graph.node] == before
    check_equal(model, tmp_path, 2)


def test_shape_of_a_tile_is_that_of_its_columns(tmp_path: Path) -> None:
    """The planner counts a tile's output by it."""
    loaded = load_model(models.save(matmul(64, 200, 7), tmp_path / "m.onnx"))
    tile_weights(loaded, 64 * 4 * 64)
    shapes = [tuple(n.outputs[0].shape or ()) for n in loaded.graph if n.op_type == "MatMul"]
    assert [shape[1:] for shape in shapes] == [(7, 48)] * 3 + [(7, 56)]
    assert len({repr(shape[0]) for shape in shapes}) == 1
    assert [shape[1] for shape in shapes] == [7] * len(shapes)
