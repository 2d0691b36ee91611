"""Writes an ONNX file straight from where the weights lie, without a copy of them all.

A protobuf message is its fields one after another, in any order. So the graph is
serialised without its large weights, and each of those follows as one more initializer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import onnx
import onnx_ir as ir

from tools.graph.detached import detached_weights
from tools.graph.mapped import field_head

_MODEL_GRAPH: Final = 7
_GRAPH_INITIALIZER: Final = 5
_TENSOR_RAW: Final = 9


def write_model(model: ir.Model, path: Path) -> None:
    """Writes a model that fits into one message, below 2 GiB.

    Args:
        model: unchanged. The same model always gives the same bytes.
        path: the ONNX file to write.
    """
    with detached_weights(model.graph) as weights:
        proto = ir.to_proto(model)
    inputs = [value for value in proto.graph.input if value.name not in weights]
    del proto.graph.input[:]
    proto.graph.input.extend(inputs)
    graph = proto.graph.SerializeToString(deterministic=True)
    proto.ClearField("graph")
    heads = [_tensor_head(name, tensor) for name, tensor in weights.items()]
    size = len(graph) + sum(
        len(head) + tensor.nbytes for head, tensor in zip(heads, weights.values(), strict=True)
    )
    with path.open("wb") as file:
        file.write(proto.SerializeToString(deterministic=True))
        file.write(field_head(_MODEL_GRAPH, size))
        file.write(graph)
        for head, tensor in zip(heads, weights.values(), strict=True):
            file.write(head)
            file.write(np.ascontiguousarray(tensor.numpy()).reshape(-1).view(np.uint8).data)


def _tensor_head(name: str, tensor: ir.TensorProtocol) -> bytes:
    """Gives everything of an initializer that comes before its bytes."""
    described: bytes = onnx.TensorProto(
        name=name,
        data_type=tensor.dtype.value,
        dims=[int(size) for size in tensor.shape.numpy()],
    ).SerializeToString(deterministic=True)
    content = described + field_head(_TENSOR_RAW, tensor.nbytes)
    return field_head(_GRAPH_INITIALIZER, len(content) + tensor.nbytes) + content
