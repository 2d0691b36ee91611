"""Notes down an architecture operator by operator."""

from __future__ import annotations

from typing import Final

import numpy as np

from app.tensors import Array, Dimension, TensorSpec
from tools.graph.build import Attribute, Network, Operator

OPSET: Final = 17
"""The first with LayerNormalization; what exporters have written by default for years."""


class Builder:
    """Collects a network; every method gives the name of what it added.

    Args:
        name: the network's.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._inputs: list[TensorSpec] = []
        self._outputs: list[TensorSpec] = []
        self._operators: list[Operator] = []
        self._weights: dict[str, tuple[int, ...]] = {}
        self._constants: dict[str, Array] = {}

    def input(self, name: str, shape: tuple[Dimension, ...], dtype: str = "float32") -> str:
        """Adds an input of the network."""
        self._inputs.append(TensorSpec(name, dtype, shape))
        return name

    def output(self, name: str, value: str, shape: tuple[Dimension, ...]) -> None:
        """Makes a float32 value an output under a name of its own."""
        self._operators.append(Operator(f"{name}_output", "Identity", (value,), (name,), {}))
        self._outputs.append(TensorSpec(name, "float32", shape))

    def weight(self, *shape: int) -> str:
        """Adds a tensor that training would find."""
        name = f"weight_{len(self._weights)}"
        self._weights[name] = shape
        return name

    def constant(self, values: float | list[int], dtype: str = "int64") -> str:
        """Adds a tensor that belongs to the architecture."""
        name = f"constant_{len(self._constants)}"
        self._constants[name] = np.array(values, dtype=dtype)
        return name

    def op(self, op_type: str, *inputs: str, **attributes: Attribute) -> str:
        """Adds an operator with one output.

        Args:
            op_type: of the standard operator set.
            inputs: names, "" for an optional one left out.
            attributes: of the operator.
        """
        name = f"{op_type}_{len(self._operators)}"
        self._operators.append(Operator(name, op_type, inputs, (f"{name}.out",), attributes))
        return f"{name}.out"

    def split(self, value: str, parts: int, axis: int) -> tuple[str, ...]:
        """Cuts a value into equal parts along an axis."""
        name = f"Split_{len(self._operators)}"
        outputs = tuple(f"{name}.{index}" for index in range(parts))
        self._operators.append(Operator(name, "Split", (value,), outputs, {"axis": axis}))
        return outputs

    def network(self) -> Network:
        """Gives what was collected."""
        return Network(
            name=self._name,
            opset=OPSET,
            inputs=tuple(self._inputs),
            outputs=tuple(self._outputs),
            operators=tuple(self._operators),
            weights=dict(self._weights),
            constants=dict(self._constants),
        )
