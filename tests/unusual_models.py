"""Tiny ONNX models with unusual content: element types, names, empty tensors, own operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.graph import FLOAT, WIDTH, Graph


def quantised() -> onnx.ModelProto:
    """int8 weights and activations with explicit quantisation, as exporters write them."""
    graph = Graph()
    scale, zero = graph.constant(np.float32(0.05), "scale"), graph.constant(np.int8(0), "zero")
    value = graph.input("x", ["batch", WIDTH])
    for index in range(2):
        weight = np.random.default_rng(index).integers(-9, 9, (WIDTH, WIDTH), dtype=np.int8)
        held = graph.node("DequantizeLinear", graph.constant(weight), scale, zero)
        narrow = graph.node("QuantizeLinear", value, scale, zero)
        value = graph.node("MatMul", graph.node("DequantizeLinear", narrow, scale, zero), held)
    graph.node("Relu", value, out="y")
    graph.output("y", ["batch", WIDTH])
    return graph.model()


def packed_weights() -> onnx.ModelProto:
    """Weights of int4, two to a byte, and of float8."""
    graph = Graph()
    value = graph.input("x", ["batch", WIDTH])
    scale = graph.constant(np.float32(0.125))
    for dtype, sizes in ((ml_dtypes.int4, (WIDTH, 96)), (ml_dtypes.float8_e4m3fn, (96, WIDTH))):
        weight = np.random.default_rng(1).integers(-7, 8, sizes).astype(dtype)
        held = graph.node("DequantizeLinear", graph.constant(weight), scale)
        value = graph.node("MatMul", value, held)
    graph.node("Relu", value, out="y")
    graph.output("y", ["batch", WIDTH])
    return graph.model(opset=21, ir_version=10)


def half() -> onnx.ModelProto:
    """float16 throughout; onnxruntime converts where it has no kernel, and not in between."""
    graph = Graph()
    value = graph.input("x", ["batch", WIDTH], TensorProto.FLOAT16)
    for _ in range(2):
        weight = graph.constant(graph.random(WIDTH, WIDTH).astype(np.float16))
        value = graph.node("Sigmoid", graph.node("MatMul", value, weight))
    graph.node("Sqrt", value, out="y")
    graph.output("y", ["batch", WIDTH], TensorProto.FLOAT16)
    return graph.model()


def bfloat16() -> onnx.ModelProto:
    """bfloat16 in requests, answers, weights and across cuts."""
    graph = Graph()
    value = graph.input("x", ["batch", WIDTH], TensorProto.BFLOAT16)
    weight = graph.constant(graph.random(WIDTH, WIDTH).astype(ml_dtypes.bfloat16))
    wide = [graph.node("Cast", each, to=FLOAT) for each in (value, weight)]
    middle = graph.node("Cast", graph.node("MatMul", *wide), to=TensorProto.BFLOAT16)
    graph.layer(graph.node("Cast", middle, to=FLOAT), out="wide")
    graph.node("Cast", "wide", out="y", to=TensorProto.BFLOAT16)
    graph.output("y", ["batch", WIDTH], TensorProto.BFLOAT16)
    return graph.model()


def scan() -> onnx.ModelProto:
    """A Scan whose body captures an outer value and an outer initializer."""
    graph = Graph()
    value = graph.layer(graph.input("x", ["batch", WIDTH]))
    first = graph.node("ReduceSum", value, graph.constant(np.array([0], np.int64)), keepdims=0)
    captured = graph.weight(WIDTH, WIDTH, name="captured")
    row = [helper.make_tensor_value_info(name, FLOAT, [WIDTH]) for name in ("sum", "row")]
    made = [helper.make_tensor_value_info(name, FLOAT, [WIDTH]) for name in ("next", "kept")]
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["row", captured], ["product"]),
            helper.make_node("Add", ["product", first], ["shifted"]),
            helper.make_node("Add", ["shifted", "sum"], ["next"]),
            helper.make_node("Identity", ["next"], ["kept"]),
        ],
        "body",
        row,
        made,
    )
    last, every = graph.fresh(), graph.fresh()
    graph.nodes.append(
        helper.make_node(
            "Scan", [first, value], [last, every], name="scan", body=body, num_scan_inputs=1
        )
    )
    graph.layer(graph.node("Add", every, last), out="y")
    graph.output("y", ["batch", WIDTH])
    return graph.model()


def nothing() -> onnx.ModelProto:
    """Tensors without elements: an initializer, an input, and values across cuts."""
    graph = Graph()
    value = graph.layer(graph.input("x", ["batch", WIDTH]))
    empty = graph.node("Relu", graph.input("empty", ["batch", 0]))
    none = graph.constant(np.zeros((0, WIDTH), np.float32))
    joined = graph.node("Concat", graph.node("MatMul", empty, none), value, axis=1)
    graph.node("Slice", joined, *(graph.constant(np.array([n])) for n in (0, 0, 1)), out="gone")
    graph.layer(graph.node("Add", joined, joined), 2 * WIDTH, out="y")
    graph.output("y", ["batch", 2 * WIDTH])
    graph.output("gone", ["batch", 0])
    return graph.model()


def fills() -> onnx.ModelProto:
    """A weight that a ConstantOfShape makes, and a shape that is computed."""
    graph = Graph()
    value = graph.layer(graph.input("x", ["batch", WIDTH]))
    shape = graph.constant(np.array([WIDTH, WIDTH], np.int64))
    fill = numpy_helper.from_array(np.array([0.125], np.float32))
    weight = graph.node("ConstantOfShape", shape, value=fill)
    ones = graph.node("ConstantOfShape", graph.node("Shape", value), value=fill)
    graph.node("Add", graph.node("MatMul", value, weight), ones, out="y")
    graph.output("y", ["batch", WIDTH])
    return graph.model()


def own_domain() -> onnx.ModelProto:
    """An operator that onnxruntime defines, which onnx doesn't know."""
    graph = Graph()
    value = graph.layer(graph.input("x", ["batch", WIDTH]))
    value = graph.node("QuickGelu", value, domain="com.microsoft", alpha=1.5)
    graph.layer(value, out="y")
    graph.output("y", ["batch", WIDTH])
    return graph.model()


def extreme_names() -> onnx.ModelProto:
    """A name of 1,000 characters, of no ASCII, of one dot, and names that begin with others."""
    graph = Graph()
    value = graph.input("ж" * 3, ["batch", WIDTH])
    for name in ("a" * 1000, "a" * 999, ".", "値/\u2009:0", 'q"uo\\te\n', "%s{0}"):
        value = graph.layer(value, out=name)
    graph.layer(value, out="ж" * 4)
    graph.output("ж" * 4, ["batch", WIDTH])
    graph.output(".", ["batch", WIDTH])
    return graph.model()


def repeated_output() -> onnx.ModelProto:
    """One value that is two of the outputs."""
    graph = Graph()
    graph.layer(graph.layer(graph.input("x", ["batch", WIDTH])), out="y")
    graph.output("y", ["batch", WIDTH])
    graph.output("y", ["batch", WIDTH])
    return graph.model()


def text() -> onnx.ModelProto:
    """Strings in requests and answers and across cuts, beside numbers."""
    graph = Graph()
    words = graph.input("words", ["batch", WIDTH], TensorProto.STRING)
    yes = graph.constant(np.array(["ja"], dtype=object))
    value = graph.node("Cast", graph.node("Equal", words, yes), to=FLOAT)
    graph.layer(graph.layer(value), out="y")
    graph.node("StringConcat", words, graph.constant(np.array(["!"], dtype=object)), out="loud")
    graph.output("y", ["batch", WIDTH])
    graph.output("loud", ["batch", WIDTH], TensorProto.STRING)
    return graph.model(opset=20, ir_version=9)


def strings() -> onnx.ModelProto:
    """A tensor of strings that crosses a cut."""
    graph = Graph()
    graph.node("Cast", graph.input("x", ["batch"]), out="words", to=TensorProto.STRING)
    graph.node("Identity", "words", out="y")
    graph.output("y", ["batch"], TensorProto.STRING)
    return graph.model()


UNUSUAL: Final[tuple[Callable[[], onnx.ModelProto], ...]] = (
    quantised,
    packed_weights,
    half,
    bfloat16,
    scan,
    nothing,
    fills,
    own_domain,
    extreme_names,
    text,
    strings,
    repeated_output,
)
"""All of them can be partitioned."""
