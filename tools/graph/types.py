"""Infers the type and shape of every value."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import onnx
import onnx_ir as ir

_LARGE_BYTES = 1024
"""Larger initializers say nothing about shapes, and would not fit in one protobuf message."""


def infer_types(model: ir.Model) -> None:
    """Fills in types and shapes, as far as the operators' definitions tell them.

    onnx-ir's own pass makes a tensor of every sequence, and a sequence can't be
    handed from one partition to the next.
    """
    with _without_large_initializers(model.graph):
        proto = ir.to_proto(model)
    inferred = ir.from_proto(onnx.shape_inference.infer_shapes(proto, data_prop=True))
    for graph, described in zip(model.graphs(), inferred.graphs(), strict=True):
        known = ir.convenience.create_value_mapping(described, include_subgraphs=False)
        for name, value in ir.convenience.create_value_mapping(
            graph, include_subgraphs=False
        ).items():
            if name in known and known[name].type is not None:
                value.type = known[name].type
                value.shape = known[name].shape


@contextmanager
def _without_large_initializers(graph: ir.Graph) -> Iterator[None]:
    """Makes inputs of large initializers for a while; their types stay known."""
    tensors = {
        value: value.const_value
        for value in graph.initializers.values()
        if value.const_value is not None and value.const_value.nbytes > _LARGE_BYTES
    }
    inputs = list(graph.inputs)
    for value, tensor in tensors.items():
        value.type = ir.TensorType(tensor.dtype)
        value.shape = ir.Shape(tensor.shape.numpy())
        value.const_value = None
        graph.initializers.pop(value.name or "")
        graph.inputs.append(value)
    try:
        yield
    finally:
        graph.inputs[:] = inputs
        for value, tensor in tensors.items():
            value.const_value = tensor
            graph.register_initializer(value)
