"""Models whose kernels refuse what a request holds, and say it in their errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto

from tests.graph import Graph

SECRET: Final = 271828
"""A value of a request that the host has to learn nowhere."""

_INT64: Final = int(TensorProto.INT64)


@dataclass(frozen=True)
class Failing:
    """A model and a request that it fails with.

    Attributes:
        make: builds the model.
        inputs: name, datatype of the protocol, shape and content of each.
    """

    make: Callable[[], onnx.ModelProto]
    inputs: tuple[tuple[str, str, list[int], list[Any]], ...]

    def body(self) -> dict[str, Any]:
        """Gives the request."""
        keys = ("name", "datatype", "shape", "data")
        return {"inputs": [dict(zip(keys, each, strict=True)) for each in self.inputs]}


def gather() -> onnx.ModelProto:
    graph = Graph()
    ids = graph.input("ids", ["n"], _INT64)
    graph.output(graph.node("Gather", graph.weight(1000, 4), ids), ["n", 4])
    return graph.model()


def gather_elements() -> onnx.ModelProto:
    graph = Graph()
    ids = graph.input("ids", ["n", 4], _INT64)
    graph.output(graph.node("GatherElements", graph.weight(1000, 4), ids, axis=0), ["n", 4])
    return graph.model()


def gather_nd() -> onnx.ModelProto:
    graph = Graph()
    ids = graph.input("ids", ["n", 1], _INT64)
    graph.output(graph.node("GatherND", graph.weight(1000, 4), ids), ["n", 4])
    return graph.model()


def scatter() -> onnx.ModelProto:
    graph = Graph()
    ids = graph.input("ids", [2, 4], _INT64)
    weight, update = graph.weight(1000, 4), graph.weight(2, 4)
    graph.output(graph.node("ScatterElements", weight, ids, update), [1000, 4])
    return graph.model()


def reshape() -> onnx.ModelProto:
    graph = Graph()
    value = graph.node("Add", graph.input("x", [6]), graph.weight(6))
    graph.output(graph.node("Reshape", value, graph.input("ids", [2], _INT64)), ["a", "b"])
    return graph.model()


def expand() -> onnx.ModelProto:
    graph = Graph()
    value = graph.node("Add", graph.input("x", [6]), graph.weight(6))
    graph.output(graph.node("Expand", value, graph.input("ids", [2], _INT64)), ["a", "b"])
    return graph.model()


def tile() -> onnx.ModelProto:
    graph = Graph()
    value = graph.node("Add", graph.input("x", [6]), graph.weight(6))
    graph.output(graph.node("Tile", value, graph.input("ids", [1], _INT64)), ["a"])
    return graph.model()


def shapes_of_two_inputs() -> onnx.ModelProto:
    graph = Graph()
    both = graph.node("MatMul", graph.input("x", ["a", "b"]), graph.input("y", ["c", "d"]))
    graph.output(graph.node("Add", both, graph.weight(1, 1)), ["e", "f"])
    return graph.model()


def one_hot() -> onnx.ModelProto:
    graph = Graph()
    depth = graph.input("ids", [1], _INT64)
    values = graph.constant(np.array([0, 1], np.float32))
    hot = graph.node("OneHot", graph.constant(np.zeros(2, np.int64)), depth, values)
    graph.output(graph.node("Add", hot, graph.weight(1, 1)), ["n", "m"])
    return graph.model()


def _ids(*ids: int, shape: list[int] | None = None) -> tuple[str, str, list[int], list[Any]]:
    return "ids", "INT64", shape or [len(ids)], list(ids)


def _floats(name: str, *shape: int) -> tuple[str, str, list[int], list[Any]]:
    return name, "FP32", list(shape), [0.5] * int(np.prod(shape))


FAILING: Final = {
    "gather": Failing(gather, (_ids(5, SECRET, 7),)),
    "gather-elements": Failing(gather_elements, (_ids(*[SECRET] * 4, shape=[1, 4]),)),
    "gather-nd": Failing(gather_nd, (_ids(SECRET, shape=[1, 1]),)),
    "scatter": Failing(scatter, (_ids(*[SECRET] * 8, shape=[2, 4]),)),
    "reshape": Failing(reshape, (_floats("x", 6), _ids(SECRET, 3))),
    "expand": Failing(expand, (_floats("x", 6), _ids(2, SECRET))),
    "tile": Failing(tile, (_floats("x", 6), _ids(-SECRET))),
    "matmul": Failing(shapes_of_two_inputs, (_floats("x", 1, 27), _floats("y", 18, 1))),
    "one-hot": Failing(one_hot, (_ids(-SECRET),)),
}
"""By model id; each request ends with an error of a kernel."""
