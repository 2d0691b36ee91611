"""Describes a normalised model to the planner."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Final

import onnx_ir as ir

from app.errors import InputError
from app.tensors import ITEM_BITS, Dimension, TensorSpec
from tools.errors import ModelError
from tools.graph.operations import operations
from tools.graph.workspace import overwrites, workspace
from tools.planner.summary import GraphSummary, NodeSummary

_DTYPES: Mapping[ir.DataType, str] = {
    ir.DataType.FLOAT: "float32",
    ir.DataType.DOUBLE: "float64",
    **{dtype: dtype.name.lower() for dtype in ir.DataType if dtype.name.lower() in ITEM_BITS},
}

EXCHANGED: Final = tuple(
    name for name in ITEM_BITS if not name.startswith("float8") and ITEM_BITS[name] not in (2, 4)
)
"""Element types that requests and answers may have; the others live inside a model only."""


def dtype_name(dtype: ir.DataType | None) -> str | None:
    """Gives the appliance's name of an element type, or None for one it can't handle."""
    return None if dtype is None else _DTYPES.get(dtype)


def summarize(
    model: ir.Model,
    dimensions: Mapping[str, int] | None = None,
    observed: Mapping[str, TensorSpec] | None = None,
) -> GraphSummary:
    """Describes a normalised model.

    Args:
        model: from `load_model`.
        dimensions: sizes to plan symbolic dimensions with.
        observed: what a run showed of values that shape inference can't tell.

    Raises:
        ModelError: when an input or output isn't a tensor of an element type that is served.
        InputError: when a size is given for a dimension that the model doesn't have.
    """
    graph = model.graph
    for value in (*graph.inputs, *graph.outputs):
        spec = _spec(value)
        if spec is None or spec.dtype not in EXCHANGED:
            raise ModelError(
                f"input or output {value.name!r} is of {value.type}; expected a tensor of one of "
                f"{', '.join(EXCHANGED)}"
            )
    nodes = tuple(_node(index, node, graph) for index, node in enumerate(graph))
    values = {
        value.name: spec
        for value in [*graph.inputs, *(v for node in graph for v in node.outputs)]
        if value.name and (spec := _spec(value)) is not None
    }
    sizes = {
        value.name or "": value.const_value.nbytes
        for value in graph.initializers.values()
        if value.const_value is not None
    }
    _check_dimensions(values, dimensions or {})
    seen = {name: spec.bytes_with({}) or 0 for name, spec in (observed or {}).items()}
    shapes = _Shapes(values, observed or {}, dimensions or {})
    nodes = tuple(_costs(summary, node, shapes) for summary, node in zip(nodes, graph, strict=True))
    return GraphSummary(
        nodes=nodes,
        values=values,
        weight_bytes=sizes,
        inputs=tuple(value.name or "" for value in graph.inputs),
        outputs=tuple(value.name or "" for value in graph.outputs),
        dimensions=dict(dimensions or {}),
        observed_bytes=seen,
        observed_shapes={
            name: shape
            for name, spec in (observed or {}).items()
            if (shape := _planned(spec, {})) is not None
        },
    )


def _costs(summary: NodeSummary, node: ir.Node, shapes: _Shapes) -> NodeSummary:
    """Adds what a node computes and what memory it takes while it does."""
    need = workspace(node, shapes.of)
    return replace(
        summary,
        operations=operations(node, shapes.elements),
        overwrites=overwrites(node),
        workspace_bytes=need.bytes,
        lane_bytes=need.lane_bytes,
    )


@dataclass(frozen=True, slots=True)
class _Shapes:
    """Gives shapes with symbolic dimensions as planned."""

    values: Mapping[str, TensorSpec]
    observed: Mapping[str, TensorSpec]
    dimensions: Mapping[str, int]

    def elements(self, name: str) -> int:
        shape = self.named(name)
        return 0 if shape is None else prod(shape)

    def of(self, value: ir.Value) -> tuple[int, ...] | None:
        if value.const_value is not None:
            return tuple(int(size) for size in value.const_value.shape.numpy())
        return self.named(value.name or "")

    def named(self, name: str) -> tuple[int, ...] | None:
        spec = self.observed.get(name) or self.values.get(name)
        return None if spec is None else _planned(spec, self.dimensions)


def _planned(spec: TensorSpec, dimensions: Mapping[str, int]) -> tuple[int, ...] | None:
    """Gives a shape with sizes for the symbolic dimensions; those not named count as 1."""
    if spec.shape is None:
        return None
    return tuple(dimensions.get(dim, 1) if isinstance(dim, str) else dim for dim in spec.shape)


def describe(model: ir.Model, specs: Mapping[str, TensorSpec]) -> None:
    """Writes element types and shapes into a model's values."""
    types = {name: dtype for dtype, name in _DTYPES.items()}
    for node in model.graph:
        for value in node.outputs:
            spec = specs.get(value.name or "")
            if spec is not None:
                value.type = ir.TensorType(types[spec.dtype])
                value.shape = None if spec.shape is None else ir.Shape(spec.shape)


def _check_dimensions(values: Mapping[str, TensorSpec], dimensions: Mapping[str, int]) -> None:
    known = {dim for spec in values.values() for dim in spec.shape or () if isinstance(dim, str)}
    for name in dimensions:
        if name not in known:
            raise InputError(
                f"--dim {name}: the model has no dimension of that name; it has "
                f"{', '.join(sorted(known)) or 'none'}"
            )


def _node(index: int, node: ir.Node, graph: ir.Graph) -> NodeSummary:
    used = list(dict.fromkeys(_used_values(node, graph)))
    return NodeSummary(
        name=node.name or f"{node.op_type}_{index}",
        op_type=node.op_type,
        inputs=tuple(v.name or "" for v in used if v.name not in graph.initializers),
        outputs=tuple(v.name for v in node.outputs if v.name),
        weights=tuple(v.name or "" for v in used if v.name in graph.initializers),
    )


def _used_values(node: ir.Node, graph: ir.Graph) -> Iterator[ir.Value]:
    """Gives the main graph's values that a node reads, those its subgraphs capture too."""
    for value in node.inputs:
        if value is not None and value.graph is graph:
            yield value
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            yield from _captured(attribute.as_graph(), graph)
        elif attribute.type == ir.AttributeType.GRAPHS:
            for inner in attribute.as_graphs():
                yield from _captured(inner, graph)


def _captured(inner: ir.Graph, graph: ir.Graph) -> Iterator[ir.Value]:
    for node in inner:
        yield from _used_values(node, graph)
    yield from (value for value in inner.outputs if value.graph is graph)


def _spec(value: ir.Value) -> TensorSpec | None:
    dtype = dtype_name(value.dtype)
    if value.name is None or dtype is None or not isinstance(value.type, ir.TensorType):
        return None
    return TensorSpec(value.name, dtype, _shape(value))


def _shape(value: ir.Value) -> tuple[Dimension, ...] | None:
    if value.shape is None:
        return None
    return tuple(
        dim if isinstance(dim, int) else (dim.value or f"{value.name}.{axis}")
        for axis, dim in enumerate(value.shape)
    )
