"""Infers the type and shape of every value."""

from __future__ import annotations

import onnx
import onnx_ir as ir

from tools.graph.detached import detached_weights


def infer_types(model: ir.Model) -> None:
    """Fills in types and shapes, as far as the operators' definitions tell them.

    onnx-ir's own pass makes a tensor of every sequence, and a sequence can't be
    handed from one partition to the next. Large weights say nothing about shapes, and would not
    fit in one protobuf message.
    """
    with detached_weights(model.graph):
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


def computes_in_float16(model: ir.Model) -> bool:
    """Says whether onnxruntime has to put conversions around operators.

    It has few kernels for float16 and bfloat16 on CPUs, and converts where it has none. It leaves
    out the rounding between two such operators, so what it does has to stand in the graph that is
    cut.
    """
    reduced = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
    return any(
        value.dtype in reduced
        for graph in model.graphs()
        for node in graph
        for value in node.outputs
    )
