"""Cuts one partition out of a normalised model and writes it as an ONNX file of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx
import onnx_ir as ir

from tools.errors import ModelError
from tools.graph.detached import detached_weights
from tools.graph.external import data_file
from tools.graph.streamed import write_model
from tools.planner.plan import Partition

_EXTERNAL_FROM_BYTES = 1 << 30
"""A protobuf message holds at most 2 GiB; larger partitions keep their weights beside."""


def write_partition(model: ir.Model, partition: Partition, path: Path) -> None:
    """Extracts a partition and writes it, checked.

    Args:
        model: the normalised model that the plan was made for.
        partition: names the boundary.
        path: the ONNX file to write; large weights go to a file beside it.

    Raises:
        ModelError: when the extracted graph isn't a valid model; that is a defect of the plan.
    """
    extracted = extract_partition(model, partition)
    try:
        with detached_weights(extracted.graph):
            onnx.checker.check_model(ir.to_proto(extracted))
    except onnx.checker.ValidationError as error:
        raise ModelError(f"{path}: the extracted partition isn't valid: {error}") from error
    save_model(extracted, path)


def extract_partition(model: ir.Model, partition: Partition) -> ir.Model:
    """Cuts a partition out; its weights are the whole model's, not copies.

    Args:
        model: the normalised model that the plan was made for; unchanged.
        partition: names the boundary.

    Raises:
        ModelError: when other operators lie inside the boundary than the plan says.
    """
    graph = ir.convenience.extract(
        model.graph,
        [spec.name for spec in partition.inputs],
        [spec.name for spec in partition.outputs],
    )
    _order_initializers(graph, model.graph)
    graph.name = f"{model.graph.name or 'model'} partition {partition.index}"
    _check_nodes(model, partition, graph)
    return ir.Model(graph, ir_version=model.ir_version, producer_name="cloister")


def save_model(model: ir.Model, path: Path) -> None:
    """Writes a model; with weights beside it when they don't fit in one message."""
    total = sum(
        value.const_value.nbytes
        for value in model.graph.initializers.values()
        if value.const_value is not None
    )
    if total < _EXTERNAL_FROM_BYTES:
        write_model(model, path)
        return
    ir.save(model, path, external_data=data_file(path.name))


def _order_initializers(graph: ir.Graph, whole: ir.Graph) -> None:
    """The extractor collects initializers in a set; files must not depend on its order."""
    order = {name: place for place, name in enumerate(whole.initializers)}
    values = sorted(graph.initializers.values(), key=lambda value: order[value.name or ""])
    graph.initializers.clear()
    graph.initializers.update((value.name or "", value) for value in values)


def _check_nodes(model: ir.Model, partition: Partition, graph: ir.Graph) -> None:
    expected = partition.stop - partition.start
    if len(graph) != expected:
        raise ModelError(
            f"partition {partition.index}: expected {expected} operators of "
            f"{model.graph.name!r}, extracted {len(graph)}"
        )


def write_with_outputs(model: ir.Model, names: Sequence[str], path: Path) -> None:
    """Writes the whole model with other outputs, so that inner values can be looked at.

    Args:
        model: a normalised model; unchanged.
        names: values to be the outputs.
        path: the ONNX file to write.

    Raises:
        ModelError: when the model has no value of such a name.
    """
    known = ir.convenience.create_value_mapping(model.graph, include_subgraphs=False)
    if unknown := [name for name in names if name not in known]:
        raise ModelError(f"the whole model has no value {unknown[0]!r}; it isn't the planned one")
    inputs = [value.name or "" for value in model.graph.inputs]
    graph = ir.convenience.extract(model.graph, inputs, list(names))
    save_model(ir.Model(graph, ir_version=model.ir_version), path)
