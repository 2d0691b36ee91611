"""Tiles by rows give bit for bit what the operator gave before."""

from __future__ import annotations

from collections.abc import Callable
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
from tools.graph.summary import summarize
from tools.graph.tiling.region import Lives, Nodes, axes_of, given, steps, tile_rows
from tools.graph.tiling.regions import apply_regions
from tools.graph.tiling.search import Region
from tools.planner.liveness import Liveness

MICROSOFT = "com.microsoft"


def one(
    op: str, *shapes: tuple[int, ...], out: tuple[int, ...], domain: str = "", **attributes: Any
) -> onnx.ModelProto:
    """An operator of inputs x0, x1, …, with all its sizes known."""
    graph = Graph()
    names = [graph.input(f"x{i}", shape) for i, shape in enumerate(shapes)]
    return finish(graph, op, names, out, domain, **attributes)


def finish(
    graph: Graph, op: str, names: list[str], out: tuple[int, ...], domain: str = "", **more: Any
) -> onnx.ModelProto:
    graph.node(op, *names, out="y", **({"domain": domain} if domain else {}), **more)
    graph.output("y", out)
    model = graph.model()
    if domain:
        model.opset_import.append(onnx.helper.make_opsetid(domain, 1))
    return model


def conv(
    x: tuple[int, ...],
    w: tuple[int, ...],
    out: tuple[int, ...],
    *,
    op: str = "Conv",
    domain: str = "",
    added: bool = False,
    **attributes: Any,
) -> onnx.ModelProto:
    graph = Graph()
    names = [graph.input("x", x), graph.weight(*w), graph.weight(out[1])]
    if added:
        names.append(graph.input("z", out))
    return finish(graph, op, names, out, domain, **attributes)


def slice_(starts: list[int], ends: list[int], axes: list[int], step: int) -> onnx.ModelProto:
    graph = Graph()
    names = [graph.input("x", (2, 5, 23, 7))]
    names += [graph.constant(np.array(each)) for each in (starts, ends, axes, [step] * len(axes))]
    full = np.zeros((2, 5, 23, 7))
    index: list[slice] = [slice(None)] * 4
    for start, end, axis in zip(starts, ends, axes, strict=True):
        index[axis] = slice(start, end, step)
    return finish(graph, "Slice", names, full[tuple(index)].shape)


def cast() -> onnx.ModelProto:
    return typed("Cast", 1, "float32", "int32", to=onnx.TensorProto.INT32)


def typed(op: str, inputs: int, dtype: str, out: str, **attributes: Any) -> onnx.ModelProto:
    kind, made = (onnx.helper.np_dtype_to_tensor_dtype(np.dtype(each)) for each in (dtype, out))
    graph = Graph()
    names = [graph.input(f"x{i}", X, kind) for i in range(inputs)]
    graph.node(op, *names, out="y", **attributes)
    graph.output("y", X, made)
    return graph.model()


def normalized(op: str, domain: str, weights: int, inputs: int, **attributes: Any) -> Any:
    graph = Graph()
    names = [graph.input(f"x{i}", (2, 19, 33)) for i in range(inputs)]
    names += [graph.weight(33) for _ in range(weights)]
    return finish(graph, op, names, (2, 19, 33), domain, **attributes)


def channels() -> onnx.ModelProto:
    graph = Graph()
    scales = [graph.constant(np.linspace(0.5, 2, 5, dtype=np.float32)) for _ in range(4)]
    return finish(graph, "BatchNormalization", [graph.input("x", X), *scales], X)


def matrix(op: str, x: tuple[int, ...], w: tuple[int, ...], domain: str = "", **more: Any) -> Any:
    graph = Graph()
    names = [graph.input("x", x), graph.weight(*w)]
    columns = w[0] if more.get("transB") else w[1]
    return finish(graph, op, names, (*x[:-1], columns), domain, **more)


X = (2, 5, 23, 7)
UNARY = (
    *("Abs", "Ceil", "Clip", "Dropout", "Floor", "HardSigmoid", "HardSwish", "Identity"),
    *("LeakyRelu", "Neg", "Relu", "Round", "Sign", "Sqrt"),
)
BINARY = ("Add", "Div", "Max", "Min", "Mul", "PRelu", "Sub", "Sum")
COMPARING = ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
LOGICAL = ("And", "Or", "Xor")


def where() -> onnx.ModelProto:
    graph = Graph()
    names = [graph.input("c", (23, 1), onnx.TensorProto.BOOL)]
    names += [graph.input("a", X), graph.input("b", (7,))]
    return finish(graph, "Where", names, X)


CASES: dict[str, list[Callable[[], onnx.ModelProto]]] = {
    **{op: [lambda op=op: one(op, X, out=X)] for op in UNARY},  # type: ignore[misc]
    **{
        op: [
            lambda op=op: one(op, X, X, out=X),  # type: ignore[misc]
            lambda op=op: one(op, X, (5, 1, 1), out=X),  # type: ignore[misc]
            lambda op=op: one(op, X, (23, 1), out=X),  # type: ignore[misc]
            lambda op=op: one(op, X, (7,), out=X),  # type: ignore[misc]
        ]
        for op in BINARY
    },
    **{op: [lambda op=op: typed(op, 2, "float32", "bool")] for op in COMPARING},  # type: ignore[misc]
    **{op: [lambda op=op: typed(op, 2, "bool", "bool")] for op in LOGICAL},  # type: ignore[misc]
    "Not": [lambda: typed("Not", 1, "bool", "bool")],
    "Cast": [cast],
    "Where": [where],
    "BatchNormalization": [channels],
    "Softmax": [
        lambda: one("Softmax", (2, 19, 33), out=(2, 19, 33), axis=-1),
        lambda: one("Softmax", (2, 4, 19, 33), out=(2, 4, 19, 33), axis=3),
    ],
    "LogSoftmax": [lambda: one("LogSoftmax", (2, 19, 33), out=(2, 19, 33), axis=-1)],
    "LayerNormalization": [lambda: normalized("LayerNormalization", "", 2, 1, axis=-1)],
    "com.microsoft.SkipLayerNormalization": [
        lambda: normalized("SkipLayerNormalization", MICROSOFT, 2, 2),
        lambda: normalized("SkipLayerNormalization", MICROSOFT, 3, 2),
    ],
    "Concat": [lambda: one("Concat", X, (2, 3, 23, 7), out=(2, 8, 23, 7), axis=1)],
    "Transpose": [
        lambda: one("Transpose", X, out=(2, 7, 5, 23), perm=[0, 3, 1, 2]),
        lambda: one("Transpose", X, out=(7, 23, 5, 2)),
    ],
    "Slice": [
        lambda: slice_([3, 1], [-2, 6], [2, 3], 1),
        lambda: slice_([1, 0], [100, 5], [2, 3], 2),
        lambda: slice_([-4], [100], [3], 1),
    ],
    "MaxPool": [
        lambda: one(
            "MaxPool", (1, 3, 24, 9), out=(1, 3, 12, 4), kernel_shape=[2, 2], strides=[2, 2]
        ),
        lambda: one(
            "MaxPool",
            (1, 3, 24, 9),
            out=(1, 3, 12, 5),
            kernel_shape=[3, 3],
            strides=[2, 2],
            pads=[1, 1, 1, 1],
        ),
        lambda: one(
            "MaxPool",
            (1, 3, 24, 9),
            out=(1, 3, 12, 5),
            kernel_shape=[3, 3],
            strides=[2, 2],
            ceil_mode=1,
            pads=[0, 0, 0, 1],
        ),
    ],
    "AveragePool": [
        lambda counted=counted: one(
            "AveragePool",
            (1, 3, 24, 9),
            out=(1, 3, 24, 9),
            kernel_shape=[3, 3],
            pads=[1, 1, 1, 1],
            count_include_pad=counted,
        )
        for counted in (0, 1)
    ]
    + [
        lambda: one(
            "AveragePool",
            (1, 3, 24, 9),
            out=(1, 3, 12, 5),
            kernel_shape=[3, 3],
            strides=[2, 2],
            ceil_mode=1,
            pads=[0, 0, 0, 1],
        )
    ],
    "Conv": [
        lambda: conv((1, 8, 24, 19), (16, 8, 3, 3), (1, 16, 22, 17)),
        lambda: conv((2, 40, 24, 19), (16, 40, 3, 3), (2, 16, 24, 19), pads=[1, 1, 1, 1]),
        lambda: conv(
            (1, 40, 31, 19), (16, 40, 5, 3), (1, 16, 16, 19), pads=[2, 1, 2, 1], strides=[2, 1]
        ),
        lambda: conv(
            (1, 40, 31, 19), (16, 40, 3, 3), (1, 16, 31, 19), pads=[2, 2, 2, 2], dilations=[2, 2]
        ),
        lambda: conv(
            (1, 40, 31, 19), (16, 40, 3, 3), (1, 16, 16, 10), auto_pad="SAME_UPPER", strides=[2, 2]
        ),
        lambda: conv(
            (1, 40, 32, 20), (16, 40, 3, 3), (1, 16, 16, 10), auto_pad="SAME_LOWER", strides=[2, 2]
        ),
        lambda: conv((1, 40, 31, 20), (16, 40, 3, 3), (1, 16, 29, 18), auto_pad="VALID"),
        lambda: conv((1, 32, 24, 19), (32, 1, 3, 3), (1, 32, 24, 19), group=32, pads=[1, 1, 1, 1]),
        lambda: conv((1, 32, 24, 19), (48, 16, 3, 3), (1, 48, 22, 17), group=2),
        lambda: conv((1, 300, 24, 19), (64, 300, 1, 1), (1, 64, 24, 19)),
        lambda: conv((1, 40, 24, 12), (700, 40, 3, 3), (1, 700, 22, 10)),
    ],
    "com.microsoft.FusedConv": [
        lambda added=added: conv(  # type: ignore[misc]
            (1, 40, 24, 19),
            (16, 40, 3, 3),
            (1, 16, 24, 19),
            op="FusedConv",
            domain=MICROSOFT,
            added=added,
            pads=[1, 1, 1, 1],
            activation="Relu",
        )
        for added in (False, True)
    ],
    "ConvTranspose": [
        lambda: conv(
            (1, 24, 12, 19), (24, 8, 2, 2), (1, 8, 24, 38), op="ConvTranspose", strides=[2, 2]
        ),
        lambda: conv(
            (1, 24, 12, 19),
            (24, 8, 4, 4),
            (1, 8, 24, 38),
            op="ConvTranspose",
            strides=[2, 2],
            pads=[1, 1, 1, 1],
        ),
        lambda: conv(
            (1, 240, 12, 29), (240, 8, 3, 3), (1, 8, 12, 29), op="ConvTranspose", pads=[1, 1, 1, 1]
        ),
    ],
    "MatMul": [
        lambda: matrix("MatMul", (2, 19, 300), (300, 130)),
        lambda: matrix("MatMul", (19, 30), (30, 13)),
        lambda: one("MatMul", (2, 4, 19, 30), (2, 4, 30, 19), out=(2, 4, 19, 19)),
        lambda: one("MatMul", (2, 4, 19, 30), (1, 4, 30, 19), out=(2, 4, 19, 19)),
    ],
    "com.microsoft.FusedMatMul": [
        lambda: matrix("FusedMatMul", (2, 19, 300), (130, 300), MICROSOFT, transB=1, alpha=0.5)
    ],
    "Gemm": [
        lambda: matrix("Gemm", (19, 300), (300, 130)),
        lambda: matrix("Gemm", (19, 300), (130, 300), transB=1),
        lambda: one("Gemm", (19, 300), (300, 13), (19, 13), out=(19, 13)),
        lambda: one("Gemm", (19, 300), (300, 13), (13,), out=(19, 13)),
    ],
    "com.microsoft.FusedGemm": [
        lambda: matrix("FusedGemm", (19, 300), (300, 130), MICROSOFT, activation="Relu")
    ],
}


def tile(path: Path, target: Path, count: int) -> list[dict[str, int]]:
    """Tiles the whole graph along the first axis that is possible; gives the axes, if any."""
    model = load_optimized(path, path.parent)
    nodes = Nodes(model.graph, Liveness(summarize(model)))
    lives = Lives(nodes.live.intervals, frozenset())
    stop = len(nodes.nodes)
    found = []
    for axes in axes_of(nodes, given(nodes, lives, 0, stop)):
        tiles = [steps(nodes, lives, 0, tile_rows(nodes, axes, i, count)) for i in range(count)]
        if all(each is not None for each in tiles):
            found.append(axes)
            if len(found) == 1:
                made = tuple(tuple(each) for each in tiles if each is not None)
                apply_regions(model.graph, nodes, [Region(0, stop, made, tuple(axes.items()))])
    save_model(model, target)
    return found


@pytest.mark.parametrize("name", sorted(CASES))
def test_rows_are_the_same_bits(name: str, tmp_path: Path) -> None:
    for number, case in enumerate(CASES[name]):
        model = case()
        whole = models.save(model, tmp_path / f"{number}.onnx")
        inputs = models.inputs_for(model)
        expected = WholeModel(whole, "none").run(inputs)["y"]
        tiled = [count for count in (2, 3, 5) if check(whole, inputs, expected, count)]
        assert tiled, f"{name} {number} was never tiled"


def check(whole: Path, inputs: dict[str, Any], expected: Any, count: int) -> bool:
    target = whole.with_name(f"tiled{count}.onnx")
    if not tile(whole, target, count):
        return False
    found = WholeModel(target, "none").run(inputs)["y"]
    assert found.shape == expected.shape
    assert found.tobytes() == expected.tobytes()
    return True
