"""Separates a graph into a structure without weights and the weights themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from app.graph_check import GraphError, check_graph
from app.manifest import Weight
from tools.errors import ModelError
from tools.graph.external import data_file
from tools.graph.mapped import map_external, read_mapped
from tools.graph.summary import dtype_name
from tools.planner.liveness import aligned

SMALLEST_WEIGHT_BYTES = 1024
"""Smaller initializers stay in the structure: kernels want shapes, axes and scalars constant."""


@dataclass(frozen=True, slots=True)
class Structure:
    """A graph whose weights are inputs.

    Attributes:
        graph: its ONNX bytes.
        weights: what each weight is and where it lies.
        weights_bytes: size of the object that holds them all.
    """

    graph: bytes
    weights: tuple[Weight, ...]
    weights_bytes: int
    _tensors: Mapping[str, ir.TensorProtocol]

    def loaded(self) -> Structure:
        """Gives the same structure with its weights in memory, not in the file it came from."""
        tensors = {
            name: ir.Tensor(tensor.numpy().copy(), dtype=tensor.dtype)
            for name, tensor in self._tensors.items()
        }
        return replace(self, _tensors=tensors)

    def fill(self, into: NDArray[np.uint8]) -> None:
        """Writes all weights to their places; the gaps between them become zero.

        Args:
            into: at least `weights_bytes` bytes.
        """
        into[: self.weights_bytes] = 0
        for weight in self.weights:
            raw = self._tensors[weight.name].tobytes()
            into[weight.offset : weight.offset + len(raw)] = np.frombuffer(raw, dtype=np.uint8)


def separate(path: Path, inputs: Sequence[str], outputs: Sequence[str]) -> Structure:
    """Reads a partition and turns its large initializers into inputs.

    Values get names by their place only, so that partitions of the same form
    have equal graphs, and no name of the model's reaches the run time.

    Args:
        path: the partition's ONNX file.
        inputs: its boundary, in the order that the runner will use.
        outputs: the same.

    Raises:
        ModelError: when the file can't be read, isn't the partition of this boundary, or has a
            weight whose element type is unknown.
    """
    try:
        model = read_mapped(path, allowed=(data_file(path.name),)).to_ir()
        map_external(model)
    except (OSError, DecodeError, ValueError) as error:
        raise ModelError(f"{path}: can't be read: {error}") from error
    try:
        return separate_model(model, inputs, outputs)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error


def separate_model(model: ir.Model, inputs: Sequence[str], outputs: Sequence[str]) -> Structure:
    """Turns a partition's large initializers into inputs; see `separate`.

    Args:
        model: the partition; its names and boundary change, its tensors don't.
        inputs: its boundary, in the order that the runner will use.
        outputs: the same.

    Raises:
        ModelError: when the model has another boundary, a weight of an unknown element type, or
            what an enclave doesn't open: see `app.graph_check`.
    """
    graph = model.graph
    weights: list[Weight] = []
    tensors: dict[str, ir.TensorProtocol] = {}
    offset = 0
    for value in list(graph.initializers.values()):
        tensor = value.const_value
        if tensor is None or not _is_weight(value, tensor):
            continue
        weights.append(_weight(value, tensor, offset))
        tensors[weights[-1].name] = tensor
        offset += aligned(tensor.nbytes)
        _make_input(graph, value, tensor)
    _order_boundary(graph, inputs, outputs, [weight.name for weight in weights])
    _forget_names(model)
    _forget_domains(model)
    data = ir.to_proto(model).SerializeToString(deterministic=True)
    try:
        check_graph(data)
    except GraphError as error:
        raise ModelError(f"the enclave would refuse it: {error}") from error
    return Structure(data, tuple(weights), offset, tensors)


def _order_boundary(
    graph: ir.Graph,
    inputs: Sequence[str],
    outputs: Sequence[str],
    weights: Sequence[str],
) -> None:
    by_name = {value.name: value for value in [*graph.inputs, *graph.outputs]}
    expected = {*inputs, *outputs}
    found = by_name.keys() - set(weights)
    if found != expected:
        raise ModelError(
            f"expected the inputs and outputs {sorted(expected)}, "
            f"found {sorted(name or '' for name in found)}; it isn't the planned partition"
        )
    graph.inputs[:] = [by_name[name] for name in [*inputs, *weights]]
    graph.outputs[:] = [by_name[name] for name in outputs]


def _forget_names(model: ir.Model) -> None:
    """Numbers all values and nodes; subgraphs keep theirs, which are looked up by name."""
    graph = model.graph
    graph.name = "partition"
    model.graph.doc_string = None
    model.producer_name = model.producer_version = None
    for number, value in enumerate(graph.inputs):
        value.name = f"i{number}"
    for number, value in enumerate(list(graph.initializers.values())):
        value.name = f"c{number}"
    for number, node in enumerate(graph):
        node.name = f"n{number}"
        node.doc_string = None
        for place, output in enumerate(node.outputs):
            if output.name:
                output.name = f"v{number}.{place}"


def _forget_domains(model: ir.Model) -> None:
    """Keeps the operator sets that are used: those of inlined functions aren't known anywhere."""
    used = {node.domain for node in ir.traversal.RecursiveGraphIterator(model.graph)}
    for domain in set(model.opset_imports) - used - {""}:
        del model.opset_imports[domain]


def _is_weight(value: ir.Value, tensor: ir.TensorProtocol) -> bool:
    large = tensor.nbytes >= SMALLEST_WEIGHT_BYTES and tensor.dtype != ir.DataType.STRING
    return large and not value.is_graph_output()


def _weight(value: ir.Value, tensor: ir.TensorProtocol, offset: int) -> Weight:
    dtype = dtype_name(tensor.dtype)
    if dtype is None:
        raise ModelError(f"weight {value.name!r} has the element type {tensor.dtype}")
    shape = tuple(int(size) for size in tensor.shape.numpy())
    return Weight(value.name or "", dtype, shape, offset)


def _make_input(graph: ir.Graph, value: ir.Value, tensor: ir.TensorProtocol) -> None:
    del graph.initializers[value.name or ""]
    value.const_value = None
    value.dtype = tensor.dtype
    value.shape = ir.Shape(tensor.shape.numpy())
    graph.inputs.append(value)
