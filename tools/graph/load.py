"""Reads an ONNX file into a checked, normalised model."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError
from onnx_ir.passes import PassManager, common

from app.graph_check import DOMAINS, FILE_OPERATORS
from tools.errors import ModelError
from tools.graph.external import has_sparse, nodes_of
from tools.graph.mapped import map_external, read_mapped
from tools.graph.types import infer_types
from tools.graph.wiring import wiring_problem
from tools.supplied import open_regular

_LONGEST_REASON = 400
"""Characters of onnx's explanations, which repeat themselves for graphs inside graphs."""

Model = ir.Model
"""The type, for modules that pass a model on without looking into it."""


def load_model(path: Path) -> ir.Model:
    """Loads a model, checks it, and brings it into the form that the planner works on.

    Normalising keeps every result bit for bit: functions are inlined, Constant
    nodes and subgraph initializers become initializers of the main graph, nodes
    that nothing depends on go, an output that is directly an initializer gets an
    Identity node, and types and shapes are inferred.

    Raises:
        ModelError: naming the file and the reason.
    """
    _check_readable(path)
    try:
        mapped = read_mapped(path)
        if has_sparse(mapped.proto):
            raise ModelError(
                f"{path}: holds a sparse tensor, which isn't supported; export it as a dense one"
            )
        _check_rules(path, mapped.without_weights())
        _check_operators(path, mapped.proto)
        model = mapped.to_ir()
        map_external(model)
    except (DecodeError, ir.serde.SerdeError) as error:
        raise ModelError(f"{path}: not an ONNX model, or cut off: {_first_line(error)}") from error
    except onnx.checker.ValidationError as error:
        raise ModelError(f"{path}: {_invalid(error)}") from error
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(f"{path}: {_first_line(error)}") from error
    normalized = _normalized(path, model)
    if not len(normalized.graph):
        raise ModelError(f"{path}: the graph has no operators, there is nothing to partition")
    return normalized


def _check_rules(path: Path, model: onnx.ModelProto) -> None:
    try:
        onnx.checker.check_model(model.SerializeToString(), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        reason = wiring_problem(model.graph)
        raise ModelError(f"{path}: {_invalid(reason or error)}") from error


def _check_operators(path: Path, model: onnx.ModelProto) -> None:
    """Refuses operators that an enclave wouldn't open."""
    functions = {(function.domain, function.name) for function in model.functions}
    for node in nodes_of(model):
        if node.op_type.encode() in FILE_OPERATORS:
            raise ModelError(
                f"{path}: operator {node.name!r} ({node.op_type}) holds or names a model that was "
                "compiled for a device; export the model without it"
            )
        if node.domain.encode() not in DOMAINS and (node.domain, node.op_type) not in functions:
            raise ModelError(
                f"{path}: operator {node.name!r} ({node.op_type}) is of the domain "
                f"{node.domain!r}, which onnxruntime has no CPU kernels for; the known ones are "
                + ", ".join(sorted(repr(known.decode()) for known in DOMAINS))
            )


def _invalid(reason: str | Exception) -> str:
    words = " ".join(str(reason).split())
    return f"not a valid ONNX model: {words[:_LONGEST_REASON].rstrip('. ')}; export it again"


def load_optimized(path: Path, folder: Path) -> ir.Model:
    """Loads what onnxruntime's optimiser wrote from a checked model.

    Its operators are onnxruntime's own in part, which onnx's checker doesn't know.

    Args:
        path: the optimised model; it may be removed afterwards.
        folder: where the weights lie that the optimiser left alone.

    Raises:
        ModelError: when it can't be normalised.
    """
    model = read_mapped(path, folder).to_ir(folder)
    map_external(model)
    return _normalized(path, model)


def _check_readable(path: Path) -> None:
    if path.is_dir():
        raise ModelError(f"{path}: expected an ONNX file, got a folder")
    try:
        with open_regular(path) as file:
            if not file.read(1):
                raise ModelError(f"{path}: the file is empty, expected an ONNX model")
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}") from error


def _normalized(path: Path, model: ir.Model) -> ir.Model:
    _name_nodes(model.graph)
    passes = PassManager(
        [
            common.InlinePass(),
            common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
            common.LiftSubgraphInitializersToMainGraphPass(),
            common.RemoveInitializersFromInputsPass(),
            common.RemoveUnusedNodesPass(),
            common.NameFixPass(),
        ]
    )
    try:
        normalized = passes(model).model
        _make_initializer_outputs(normalized.graph)
        infer_types(normalized)
    except Exception as error:  # onnx-ir's passes wrap whatever their step raised
        raise ModelError(f"{path}: can't be normalised: {_first_line(error)}") from error
    return normalized


def _make_initializer_outputs(graph: ir.Graph) -> None:
    """Lets a node make every output that is an initializer, so that a partition can give it."""
    for place, value in enumerate(graph.outputs):
        name = value.name or ""
        if name not in graph.initializers:
            continue
        inner_name = f"{name}.initializer"
        while inner_name in graph.initializers:
            inner_name += "_"
        graph.initializers.pop(name)
        value.name = inner_name
        graph.register_initializer(value)
        node = ir.node("Identity", [value], name=f"Identity_{name}")
        node.outputs[0].name = name
        graph.append(node)
        graph.outputs[place] = node.outputs[0]


def _name_nodes(graph: ir.Graph) -> None:
    """Errors and plans name operators, so each gets a name that says what it is."""
    for index, node in enumerate(graph):
        node.name = node.name or f"{node.op_type}_{index}"


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
