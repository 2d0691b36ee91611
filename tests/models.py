"""Tiny ONNX models: one for every shape of graph that can go wrong when it is cut."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from app.tensors import BFLOAT16, Array
from tests.graph import FLOAT, OPSET, WIDTH, Graph
from tests.unusual_models import UNUSUAL


def chain(length: int = 4) -> onnx.ModelProto:
    """Layers one after another; the first dimension is a batch of any size."""
    graph = Graph()
    value = graph.input("x", ["batch", WIDTH])
    for index in range(length):
        value = graph.layer(value, out="y" if index == length - 1 else None)
    graph.output("y", ["batch", WIDTH])
    return graph.model()


def diamond() -> onnx.ModelProto:
    """Two branches that meet again."""
    graph = Graph()
    top = graph.layer(graph.input("x", ["batch", WIDTH]))
    graph.node("Add", graph.layer(top), graph.layer(top), out="y")
    graph.output("y", ["batch", WIDTH])
    return graph.model()


def residual(blocks: int = 3) -> onnx.ModelProto:
    """Skip connections, one of them from the input to the very end."""
    graph = Graph()
    first = value = graph.input("x", ["batch", WIDTH])
    for _ in range(blocks):
        value = graph.node("Add", graph.layer(graph.layer(value)), value)
    graph.node("Add", value, first, out="y")
    graph.output("y", ["batch", WIDTH])
    return graph.model()


def many_inputs() -> onnx.ModelProto:
    """Three inputs; one is read first, one last, and one by nobody."""
    graph = Graph()
    for name in ("early", "late", "unused"):
        graph.input(name, ["batch", WIDTH])
    graph.node("Mul", graph.layer(graph.layer("early")), "late", out="y")
    graph.output("y", ["batch", WIDTH])
    return graph.model()


def many_outputs() -> onnx.ModelProto:
    """Outputs made at the start, in the middle (and read on), and at the end."""
    graph = Graph()
    graph.layer(graph.input("x", ["batch", WIDTH]), out="first")
    graph.layer("first", out="middle")
    graph.layer(graph.layer("middle"), out="last")
    for name in ("last", "first", "middle"):
        graph.output(name, ["batch", WIDTH])
    return graph.model()


def shared_weight() -> onnx.ModelProto:
    """One initializer that the first and the last layer read."""
    graph = Graph()
    shared = graph.weight(WIDTH, WIDTH, name="shared")
    value = graph.node("MatMul", graph.input("x", ["batch", WIDTH]), shared)
    graph.node("MatMul", graph.layer(graph.layer(value)), shared, out="y")
    graph.output("y", ["batch", WIDTH])
    return graph.model()


def branches() -> onnx.ModelProto:
    """An If whose branches capture a value and an initializer of the outer graph."""
    graph = Graph()
    value = graph.layer(graph.input("x", ["batch", WIDTH]))
    condition = graph.node(
        "Greater", graph.node("ReduceSum", value, keepdims=0), graph.constant(np.float32(0))
    )
    captured = graph.weight(WIDTH, WIDTH, name="captured")
    bodies = {
        "then_branch": helper.make_node("MatMul", [value, captured], ["then"]),
        "else_branch": helper.make_node("Sub", [value, value], ["else"]),
    }
    attributes = {
        name: helper.make_graph([node], name, [], [_plain(node.output[0])])
        for name, node in bodies.items()
    }
    graph.layer(graph.node("If", condition, **attributes), out="y")
    graph.output("y", ["batch", WIDTH])
    return graph.model()


def loop() -> onnx.ModelProto:
    """A Loop whose body captures an outer value, an outer initializer, and has one of its own."""
    graph = Graph()
    value = graph.layer(graph.input("x", ["batch", WIDTH]))
    captured = graph.weight(WIDTH, WIDTH, name="captured")
    own = numpy_helper.from_array(np.full(WIDTH, 0.5, np.float32), "own")
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go_in"], ["go_out"]),
            helper.make_node("MatMul", ["state_in", captured], ["product"]),
            helper.make_node("Add", ["product", value], ["sum"]),
            helper.make_node("Mul", ["sum", "own"], ["state_out"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("step", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_in", TensorProto.BOOL, []),
            _plain("state_in"),
        ],
        [helper.make_tensor_value_info("go_out", TensorProto.BOOL, []), _plain("state_out")],
        [own],
    )
    times, go = graph.constant(np.int64(3)), graph.constant(np.bool_(True))
    graph.layer(graph.node("Loop", times, go, value, body=body), out="y")
    graph.output("y", ["batch", WIDTH])
    return graph.model()


def unnamed_nodes() -> onnx.ModelProto:
    """Nodes without names, as several exporters write them."""
    model = chain()
    for node in model.graph.node:
        node.name = ""
    return model


def passthrough() -> onnx.ModelProto:
    """An input and an initializer that are outputs as they are."""
    graph = Graph()
    graph.input("x", ["batch", WIDTH])
    graph.constant(np.arange(5, dtype=np.float32), "table")
    graph.layer("x", out="y")
    graph.output("y", ["batch", WIDTH])
    graph.output("x", ["batch", WIDTH])
    graph.output("table", [5])
    return graph.model()


def constant_nodes() -> onnx.ModelProto:
    """Weights as Constant nodes instead of initializers."""
    graph = Graph()
    value = graph.input("x", ["batch", WIDTH])
    for scale in (0.1, 0.2):
        array = np.full((WIDTH, WIDTH), scale, np.float32)
        constant = graph.node("Constant", value=numpy_helper.from_array(array))
        value = graph.node("MatMul", value, constant)
    graph.node("Relu", value, out="y")
    graph.output("y", ["batch", WIDTH])
    return graph.model()


def function() -> onnx.ModelProto:
    """A node that a function inside the model defines."""
    graph = Graph()
    graph.functions.append(
        helper.make_function(
            "tests",
            "Doubled",
            ["a"],
            ["b"],
            [helper.make_node("Add", ["a", "a"], ["b"])],
            [helper.make_opsetid("", OPSET)],
        )
    )
    value = graph.layer(graph.input("x", ["batch", WIDTH]))
    graph.nodes.append(helper.make_node("Doubled", [value], ["d"], name="call", domain="tests"))
    graph.layer("d", out="y")
    graph.output("y", ["batch", WIDTH])
    return graph.model()


def optional_input() -> onnx.ModelProto:
    """A node whose middle input is left out."""
    graph = Graph()
    value = graph.layer(graph.input("x", ["batch", WIDTH]))
    top = graph.constant(np.float32(0.25))
    graph.layer(graph.node("Clip", value, "", top), out="y")
    graph.output("y", ["batch", WIDTH])
    return graph.model()


def awkward_names() -> onnx.ModelProto:
    """Names with slashes, dots and spaces, and names that begin like each other."""
    graph = Graph()
    graph.input("in", ["batch", WIDTH])
    shared = graph.weight(WIDTH, WIDTH, name="in.weight")
    graph.node("MatMul", "in", shared, out="in/0")
    graph.node("MatMul", "in/0", graph.weight(WIDTH, WIDTH, name="in.weight.1"), out="in/0/1")
    graph.node("Add", "in/0/1", "in/0", out="../out put")
    graph.layer("../out put", out="out:0")
    graph.output("out:0", ["batch", WIDTH])
    return graph.model()


def element_types() -> onnx.ModelProto:
    """int64 indices, bool and float16 across every cut.

    onnxruntime removes a rounding to float16 and back even with optimisations
    off, so the numbers are ones that rounding doesn't change.
    """
    graph = Graph()
    graph.input("ids", ["batch"], TensorProto.INT64)
    graph.input("mask", ["batch", WIDTH], TensorProto.BOOL)
    halves = np.arange(64 * WIDTH, dtype=np.float32).reshape(64, WIDTH) / 2
    rows = graph.node("Gather", graph.constant(halves), "ids")
    half = graph.node("Cast", rows, to=TensorProto.FLOAT16)
    kept = graph.node("Where", graph.node("Not", "mask"), half, half)
    graph.layer(graph.node("Cast", kept, to=FLOAT), out="y")
    graph.node("Mul", "ids", graph.constant(np.array([3], np.int64)), out="tripled")
    graph.output("y", ["batch", WIDTH])
    graph.output("tripled", ["batch"], TensorProto.INT64)
    return graph.model()


def sequence() -> onnx.ModelProto:
    """A sequence in the middle: the graph can't be cut while it is alive."""
    graph = Graph()
    value = graph.layer(graph.input("x", ["batch", WIDTH]))
    pieces = graph.node("SequenceConstruct", value, graph.layer(value))
    graph.layer(graph.node("ConcatFromSequence", pieces, axis=0), out="y")
    graph.output("y", [None, WIDTH])
    return graph.model()


def sequence_output() -> onnx.ModelProto:
    """A model whose answer isn't a tensor."""
    graph = Graph()
    value = graph.layer(graph.input("x", ["batch", WIDTH]))
    graph.node("SequenceConstruct", value, value, out="y")
    graph.output_info(helper.make_tensor_sequence_value_info("y", FLOAT, None))
    return graph.model()


def sequence_input() -> onnx.ModelProto:
    """A model whose input isn't a tensor."""
    graph = Graph()
    graph.input_info(helper.make_tensor_sequence_value_info("x", FLOAT, None))
    graph.node("ConcatFromSequence", "x", axis=0, out="y")
    graph.output("y", [None, None])
    return graph.model()


def heavy_middle(rows: int = 1024) -> onnx.ModelProto:
    """One operator, "heavy", with far more weights than all others."""
    graph = Graph()
    value = graph.layer(graph.input("x", ["batch", WIDTH]))
    wide = graph.node("MatMul", value, graph.weight(WIDTH, rows))
    graph.nodes[-1].name = "heavy"
    graph.node("ReduceMean", wide, axes=[1], out="y")
    graph.output("y", ["batch", 1])
    return graph.model()


def wide_chain(length: int = 6, width: int = 256) -> onnx.ModelProto:
    """Layers whose weights outweigh their structures, so that cutting saves memory."""
    graph = Graph()
    value = graph.input("x", ["batch", width])
    for index in range(length):
        value = graph.layer(value, width, out="y" if index == length - 1 else None)
    graph.output("y", ["batch", width])
    return graph.model()


def classifier(side: int = 8, classes: int = 3) -> onnx.ModelProto:
    """A picture classifier: convolution, pooling, two dense layers."""
    graph = Graph()
    value = graph.input("image", ["batch", 1, side, side])
    value = graph.node("Relu", graph.node("Conv", value, graph.weight(8, 1, 3, 3), pads=[1] * 4))
    value = graph.node("Flatten", value)
    value = graph.node("Relu", graph.node("MatMul", value, graph.weight(8 * side * side, WIDTH)))
    graph.node("MatMul", value, graph.weight(WIDTH, classes), out="scores")
    graph.output("scores", ["batch", classes])
    return graph.model()


MODELS: Final[Mapping[str, Callable[[], onnx.ModelProto]]] = {
    builder.__name__: builder
    for builder in (
        chain,
        diamond,
        residual,
        many_inputs,
        many_outputs,
        shared_weight,
        branches,
        loop,
        unnamed_nodes,
        passthrough,
        constant_nodes,
        function,
        optional_input,
        awkward_names,
        element_types,
        sequence,
        heavy_middle,
        classifier,
        *UNUSUAL,
    )
}
"""Every model that can be partitioned."""


def save(model: onnx.ModelProto, path: Path) -> Path:
    """Writes a model."""
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def save_external(model: onnx.ModelProto, path: Path, location: str = "weights.bin") -> Path:
    """Writes a model whose weights lie in a file of their own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path, save_as_external_data=True, location=location, size_threshold=0)
    return path


def inputs_for(model: onnx.ModelProto, batch: int = 2, seed: int = 1) -> dict[str, Array]:
    """Makes random inputs; symbolic dimensions get the size `batch`."""
    rng = np.random.default_rng(seed)
    found: dict[str, Array] = {}
    for info in model.graph.input:
        kind = info.type.tensor_type
        shape = [dim.dim_value if dim.HasField("dim_value") else batch for dim in kind.shape.dim]
        found[info.name] = _random_array(kind.elem_type, shape, rng)
    return found


def _random_array(element_type: int, shape: list[int], rng: np.random.Generator) -> Array:
    dtype = helper.tensor_dtype_to_np_dtype(element_type)
    if element_type == TensorProto.BFLOAT16:
        return rng.standard_normal(shape).astype(dtype).view(BFLOAT16)
    if element_type == TensorProto.STRING:
        return rng.choice(np.array(["ja", "nein", "ж"], dtype=object), shape)
    if dtype.kind == "f":
        return rng.standard_normal(shape).astype(dtype)
    return rng.integers(0, 2, shape).astype(dtype)


@st.composite
def random_models(draw: st.DrawFn) -> onnx.ModelProto:
    """Draws a graph of 1 to 60 nodes with skips, shared and oversize weights, and splits."""
    graph = Graph(draw(st.integers(0, 99)))
    widths: dict[str, int] = {}
    for index in range(draw(st.integers(1, 3))):
        widths[graph.input(f"in{index}", ["batch", WIDTH])] = WIDTH
    shared: dict[tuple[int, int], str] = {}
    for _ in range(draw(st.integers(1, 60))):
        _random_node(draw, graph, widths, shared)
    made = [name for name in widths if not name.startswith("in")]
    outputs = {made[-1], *draw(st.lists(st.sampled_from(made), max_size=3))}
    for name in sorted(outputs):
        graph.output(name, ["batch", widths[name]])
    return graph.model()


def _random_node(
    draw: st.DrawFn, graph: Graph, widths: dict[str, int], shared: dict[tuple[int, int], str]
) -> None:
    value = draw(st.sampled_from(list(widths)))
    width = widths[value]
    kind = draw(st.sampled_from(["matmul", "matmul", "unary", "binary", "concat", "split"]))
    if kind == "matmul":
        target = draw(st.sampled_from([8, WIDTH, WIDTH, 8 * WIDTH]))
        reuse = (width, target) in shared and draw(st.booleans())
        weight = shared[width, target] if reuse else graph.weight(width, target)
        shared[width, target] = weight
        widths[graph.node("MatMul", value, weight)] = target
    elif kind == "binary":
        other = draw(st.sampled_from([name for name in widths if widths[name] == width]))
        widths[graph.node(draw(st.sampled_from(["Add", "Mul", "Max"])), value, other)] = width
    elif kind == "concat" and width <= WIDTH:
        widths[graph.node("Concat", value, value, axis=1)] = 2 * width
    elif kind == "split" and width % 2 == 0:
        for name in graph.split(value):
            widths[name] = width // 2
    else:
        operator = draw(st.sampled_from(["Relu", "Tanh", "Sigmoid", "Neg"]))
        widths[graph.node(operator, value)] = width


def _plain(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, FLOAT, ["batch", WIDTH])
