"""Looks into a graph: its operators, their constants, and the values between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir
from google.protobuf.message import DecodeError

from app.tensors import Array
from tools.errors import ModelError
from tools.graph.extract import save_model
from tools.graph.load import Model


@dataclass(frozen=True, slots=True)
class Operator:
    """One node.

    Attributes:
        name: of the node.
        op_type: with its domain where that isn't ONNX's own.
        outputs: names of the values that it makes.
        constants: names of the constants that it or a graph inside of it reads.
    """

    name: str
    op_type: str
    outputs: tuple[str, ...]
    constants: tuple[str, ...]


def read_partition(path: Path) -> Model:
    """Reads a partition's file as it is.

    Raises:
        ModelError: when it isn't an ONNX model.
    """
    try:
        return ir.load(path)
    except (OSError, DecodeError, ValueError, ir.serde.SerdeError) as error:
        raise ModelError(f"{path}: can't be read: {error}") from error


def operators(model: Model) -> list[Operator]:
    """Gives the operators in the order in which they run."""
    known = model.graph.initializers
    return [
        Operator(
            name=node.name or "",
            op_type=f"{node.domain}.{node.op_type}" if node.domain else node.op_type,
            outputs=tuple(value.name for value in node.outputs if value.name),
            constants=tuple(dict.fromkeys(name for name in _reads(node) if name in known)),
        )
        for node in model.graph
    ]


def constant(model: Model, name: str) -> Array | None:
    """Gives a constant's content, None when the model has none of that name."""
    value = model.graph.initializers.get(name)
    if value is None or value.const_value is None:
        return None
    array: Array = value.const_value.numpy()
    return array


def write_region(model: Model, inputs: Sequence[str], outputs: Sequence[str], path: Path) -> None:
    """Writes the part of a graph between some values and others.

    Args:
        model: unchanged.
        inputs: values that are given.
        outputs: values that are made of them.
        path: the ONNX file to write.

    Raises:
        ModelError: when the graph has no such values, or others are needed too.
    """
    try:
        graph = ir.convenience.extract(model.graph, list(inputs), list(outputs))
    except ValueError as error:
        raise ModelError(
            f"the whole model has another graph than the partition: {error}"
        ) from error
    save_model(ir.Model(graph, ir_version=model.ir_version), path)


def _reads(node: ir.Node) -> Iterator[str]:
    yield from (value.name for value in node.inputs if value is not None and value.name)
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            for inner in attribute.as_graph():
                yield from _reads(inner)
