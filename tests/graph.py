"""Builds one ONNX graph step by step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET: Final = 17
IR_VERSION: Final = 8
WIDTH: Final = 32
"""A weight of WIDTH × WIDTH floats has 4 KiB: more than stays in a structure."""

FLOAT: Final = int(TensorProto.FLOAT)
Shape = Sequence[int | str | None]


class Graph:
    """Collects inputs, weights and nodes, then makes a checked model of them.

    Args:
        seed: weights are random but the same at every call.
    """

    def __init__(self, seed: int = 0) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.functions: list[onnx.FunctionProto] = []
        self._rng = np.random.default_rng(seed)
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._initializers: list[onnx.TensorProto] = []
        self._count = 0

    def input(self, name: str, shape: Shape, dtype: int = FLOAT) -> str:
        """Adds an input."""
        self._inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def output(self, name: str, shape: Shape | None = None, dtype: int = FLOAT) -> None:
        """Declares a value to be an output."""
        self._outputs.append(helper.make_tensor_value_info(name, dtype, shape))

    def output_info(self, info: onnx.ValueInfoProto) -> None:
        """Declares an output of any type."""
        self._outputs.append(info)

    def input_info(self, info: onnx.ValueInfoProto) -> None:
        """Declares an input of any type."""
        self._inputs.append(info)

    def constant(self, array: npt.ArrayLike, name: str | None = None) -> str:
        """Adds an initializer of known content."""
        name = name or self.fresh("c")
        self._initializers.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def weight(self, *shape: int, name: str | None = None) -> str:
        """Adds a random initializer."""
        return self.constant(self.random(*shape), name)

    def random(self, *shape: int) -> npt.NDArray[np.float32]:
        """Draws the content of a weight."""
        scale = 1 / np.sqrt(shape[0])
        array: npt.NDArray[np.float32] = (self._rng.standard_normal(shape) * scale).astype("f4")
        return array

    def fresh(self, prefix: str = "v") -> str:
        """Gives a name that wasn't used."""
        self._count += 1
        return f"{prefix}{self._count}"

    def node(self, op: str, *inputs: str, out: str | None = None, **attributes: Any) -> str:
        """Adds a node with one output and gives that output's name."""
        output = out or self.fresh()
        self.nodes.append(
            helper.make_node(op, inputs, [output], name=f"{op}_{output}", **attributes)
        )
        return output

    def split(self, value: str) -> tuple[str, str]:
        """Halves a value of even width: a node with two outputs."""
        names = self.fresh(), self.fresh()
        self.nodes.append(helper.make_node("Split", [value], names, name=f"Split{names}", axis=1))
        return names

    def layer(self, value: str, width: int = WIDTH, out: str | None = None) -> str:
        """Adds a MatMul with a weight of its own, then Relu."""
        return self.node("Relu", self.node("MatMul", value, self.weight(width, width)), out=out)

    def model(self, *, opset: int = OPSET, ir_version: int = IR_VERSION) -> onnx.ModelProto:
        """Makes the model; operators of onnxruntime's own domain may be in it."""
        graph = helper.make_graph(
            self.nodes, "tiny", self._inputs, self._outputs, self._initializers
        )
        opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
        if self.functions:
            opsets.append(helper.make_opsetid("tests", 1))
        return helper.make_model(
            graph, opset_imports=opsets, ir_version=ir_version, functions=self.functions
        )
