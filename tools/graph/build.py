"""Makes ONNX models from plain descriptions of a network; the model zoo is built with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from app.tensors import Array, TensorSpec
from tools.errors import ModelError
from tools.graph.extract import save_model

Attribute = int | float | str | list[int] | list[float]

_IR_VERSION: Final = 8
"""Of 2021, with opset 15: read by every onnxruntime since 1.10; opsets up to 17 use it too."""
_LIGHT_FOLDER: Final = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
_RUNNING_STATISTICS: Final = (3, 4)
"""Inputs of BatchNormalization that are measured, not learnt."""


@dataclass(frozen=True, slots=True)
class Operator:
    """One node.

    Attributes:
        name: unique in its network.
        op_type: of the standard operator set.
        inputs: names of values, weights and constants; "" for an optional input left out.
        outputs: names of the values it makes.
        attributes: by name.
    """

    name: str
    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute]


@dataclass(frozen=True, slots=True)
class Network:
    """An architecture: everything of a model but the values of its weights.

    Attributes:
        name: the graph's name.
        opset: version of the standard operator set.
        inputs, outputs: with their shapes.
        operators: in topological order.
        weights: shape of every float32 tensor that training would find.
        constants: tensors that belong to the architecture, such as a Reshape's target.
    """

    name: str
    opset: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    operators: tuple[Operator, ...]
    weights: Mapping[str, tuple[int, ...]]
    constants: Mapping[str, Array]


def write_network(network: Network, values: Mapping[str, Array], path: Path) -> None:
    """Writes a network with the values of its weights as an ONNX file, checked.

    Args:
        network: the architecture.
        values: float32 by weight name, of the network's shapes.
        path: the file; weights of 1 GiB and more go to a file beside it.

    Raises:
        ModelError: when a value is missing or has another shape, or the graph isn't valid.
    """
    for name, shape in network.weights.items():
        value = values.get(name)
        if value is None or value.shape != shape or value.dtype != np.float32:
            raise ModelError(f"{network.name}: weight {name!r} needs float32 values of {shape}")
    initializers = {**network.constants, **{name: values[name] for name in network.weights}}
    graph = _graph(network.operators, network.inputs, network.outputs, initializers)
    graph.name = network.name
    graph.opset_imports[""] = network.opset
    save_model(ir.Model(graph, ir_version=_IR_VERSION, producer_name="cloister"), path)
    check_file(path)


def check_file(path: Path) -> None:
    """Checks a model by the rules of ONNX, shape inference included.

    Raises:
        ModelError: with the first rule that it breaks.
    """
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ModelError(f"{path}: not a valid ONNX model: {error}") from error


def operator_bytes(operator: Operator, opset: int, inputs: Mapping[str, Array]) -> bytes:
    """Makes a model of one operator whose inputs, weights too, are graph inputs.

    Args:
        operator: the node.
        opset: version of the standard operator set.
        inputs: arrays that tell element types and shapes; those it doesn't read are ignored.
    """
    names = [name for name in dict.fromkeys(operator.inputs) if name]
    read = [TensorSpec(name, inputs[name].dtype.name, inputs[name].shape) for name in names]
    graph = _graph([operator], read, (), {})
    graph.outputs.extend(value for node in graph for value in node.outputs if value.name)
    graph.opset_imports[""] = opset
    content: bytes = ir.to_proto(ir.Model(graph, ir_version=_IR_VERSION)).SerializeToString()
    return content


def count_parameters(model: ir.Model) -> int:
    """Counts what training would learn: float tensors of rank 1 and above.

    The running statistics of BatchNormalization are measured, so they don't count; scalars
    belong to the architecture.
    """
    measured = {
        value.name
        for node in model.graph
        if node.op_type == "BatchNormalization"
        for value in (node.inputs[index] for index in _RUNNING_STATISTICS)
        if value is not None
    }
    return sum(
        prod(tensor.shape.numpy())
        for value in model.graph.initializers.values()
        if (tensor := value.const_value) is not None
        and tensor.dtype.is_floating_point()
        and len(tensor.shape)
        and value.name not in measured
    )


def light_network(file: str) -> Network:
    """Reads an architecture that the onnx package carries for its own tests.

    Those files hold a fill of one number in the place of each weight, made by a node
    ConstantOfShape or stored. The fills go; what remains is the architecture.

    Args:
        file: its name, as in "light_vgg19.onnx".

    Raises:
        ModelError: when this version of the onnx package doesn't carry it.
    """
    path = _LIGHT_FOLDER / file
    if not path.is_file():
        raise ModelError(
            f"the installed onnx package {onnx.__version__} has no {file} in {path.parent}; "
            "install the version that the project's requirements name"
        )
    graph = onnx.load(path).graph
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    operators, shapes = replace_fills(graph.node, stored)
    used = {name for operator in operators for name in operator.inputs}
    return Network(
        name=file.removesuffix(".onnx"),
        opset=9,
        inputs=tuple(_spec(v) for v in graph.input if v.name in used and v.name not in stored),
        outputs=tuple(_spec(value) for value in graph.output),
        operators=operators,
        weights={name: shape for name, shape in shapes.items() if name in used},
        constants={
            name: value
            for name, value in stored.items()
            if name in used and value.dtype != np.float32
        },
    )


def replace_fills(
    nodes: Iterable[onnx.NodeProto], stored: Mapping[str, Array]
) -> tuple[tuple[Operator, ...], dict[str, tuple[int, ...]]]:
    """Takes the fills out of a graph.

    Args:
        nodes: of the graph, in order.
        stored: its initializers.

    Returns:
        The nodes that aren't fills, and the shape of every weight, whose values the fills made up.
    """
    shapes = {name: value.shape for name, value in stored.items() if value.dtype == np.float32}
    operators = []
    for index, node in enumerate(nodes):
        if node.op_type == "ConstantOfShape" and node.input[0] in stored:
            shapes[node.output[0]] = tuple(int(size) for size in stored[node.input[0]])
        else:
            operators.append(_operator(node, index))
    return tuple(operators), shapes


def _operator(node: onnx.NodeProto, index: int) -> Operator:
    values = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    attributes = {
        name: value.decode() if isinstance(value, bytes) else value
        for name, value in values.items()
    }
    return Operator(
        name=node.name or f"{node.op_type}_{index}",
        op_type=node.op_type,
        inputs=tuple(node.input),
        outputs=tuple(node.output),
        attributes=attributes,
    )


def _graph(
    operators: Sequence[Operator],
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    initializers: Mapping[str, Array],
) -> ir.Graph:
    values = {spec.name: _value(spec) for spec in (*inputs, *outputs)}
    for name, array in initializers.items():
        values[name] = ir.Value(name=name, const_value=ir.tensor(array, name=name))
    nodes = [_node(operator, values) for operator in operators]
    return ir.Graph(
        [values[spec.name] for spec in inputs],
        [values[spec.name] for spec in outputs],
        nodes=nodes,
        initializers=[values[name] for name in initializers],
        opset_imports={},
    )


def _node(operator: Operator, values: dict[str, ir.Value]) -> ir.Node:
    for name in operator.outputs:
        values.setdefault(name, ir.Value(name=name))
    return ir.Node(
        "",
        operator.op_type,
        [values[name] if name else None for name in operator.inputs],
        ir.convenience.convert_attributes(operator.attributes),
        outputs=[values[name] for name in operator.outputs],
        name=operator.name,
    )


def _value(spec: TensorSpec) -> ir.Value:
    dtype = ir.DataType.from_numpy(np.dtype(spec.dtype))
    shape = None if spec.shape is None else ir.Shape(spec.shape)
    return ir.Value(name=spec.name, type=ir.TensorType(dtype), shape=shape)


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type or TensorProto.FLOAT).name
    return TensorSpec(value.name, dtype, tuple(dim.dim_value for dim in tensor.shape.dim))
