"""A graph without its large weights, for what only looks at operators and shapes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import onnx_ir as ir

from app.tensors import Array
from tools.graph.mapped import LARGE_BYTES


@contextmanager
def detached_weights(
    graph: ir.Graph, *, numpy_only: bool = False
) -> Iterator[Mapping[str, ir.TensorProtocol]]:
    """Makes inputs of large initializers for a while; their types and shapes stay known.

    Smaller ones stay: kernels and shape inference want shapes, axes and scalars constant.

    Args:
        graph: unchanged after the block.
        numpy_only: leave those whose element type numpy doesn't have itself, such as bfloat16.

    Yields:
        The weights by name, in the graph's order. They come back when the block ends.
    """
    before = list(graph.initializers.items())
    inputs = list(graph.inputs)
    weights = {
        value: value.const_value
        for value in graph.initializers.values()
        if value.const_value is not None
        and _is_large(value, value.const_value)
        and not (numpy_only and value.const_value.dtype.numpy().isbuiltin != 1)
    }
    for value, tensor in weights.items():
        value.type = ir.TensorType(tensor.dtype)
        value.shape = ir.Shape(tensor.shape.numpy())
        value.const_value = None
        del graph.initializers[value.name or ""]
        graph.inputs.append(value)
    try:
        yield {value.name or "": tensor for value, tensor in weights.items()}
    finally:
        graph.inputs[:] = inputs
        for value, tensor in weights.items():
            value.const_value = tensor
        graph.initializers.clear()
        graph.initializers.update(before)


def _is_large(value: ir.Value, tensor: ir.TensorProtocol) -> bool:
    if tensor.nbytes < LARGE_BYTES or tensor.dtype == ir.DataType.STRING:
        return False
    return tensor.dtype.bitwidth >= 8 and not value.is_graph_output()


def inner_outputs(
    model: ir.Model, names: Sequence[str], sizes: Mapping[str, Sequence[int]]
) -> bytes:
    """Gives the model with inner values as outputs and no large weights.

    Args:
        model: a normalised model; unchanged.
        names: values to be the outputs.
        sizes: shapes of the model's inputs.
    """
    graph = _extracted(model, names)
    for value in graph.inputs:
        value.shape = ir.Shape(sizes[value.name or ""])
    with detached_weights(graph):
        return _content(model, graph)


def shapes_as_outputs(
    model: ir.Model, names: Sequence[str]
) -> tuple[bytes, dict[str, Array], list[str]]:
    """Gives the model with the shapes of inner values as outputs.

    Args:
        model: a normalised model; unchanged.
        names: tensors to look at.

    Returns:
        ONNX bytes whose large weights are inputs, the weights to run them with, and the outputs
        in the order of the names.
    """
    graph = _extracted(model, names)
    taken = {value.name or "" for node in graph for value in node.outputs} | {*graph.initializers}
    prefix = "shape of"
    while any(name.startswith(prefix) for name in taken):
        prefix += "_"
    nodes = [ir.node("Shape", [value]) for value in graph.outputs]
    for node, name in zip(nodes, names, strict=True):
        node.outputs[0].name = f"{prefix} {name}"
    graph.extend(nodes)
    graph.outputs[:] = [node.outputs[0] for node in nodes]
    with detached_weights(graph, numpy_only=True) as weights:
        content = _content(model, graph)
    outputs = [f"{prefix} {name}" for name in names]
    return content, {name: tensor.numpy() for name, tensor in weights.items()}, outputs


def _extracted(model: ir.Model, names: Sequence[str]) -> ir.Graph:
    inputs = [value.name or "" for value in model.graph.inputs]
    return ir.convenience.extract(model.graph, inputs, list(names))


def _content(model: ir.Model, graph: ir.Graph) -> bytes:
    content: bytes = ir.to_proto(ir.Model(graph, ir_version=model.ir_version)).SerializeToString()
    return content
