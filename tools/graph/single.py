"""Writes a stretch of a model as an ONNX file of its own, to be measured alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx_ir as ir

from tools.errors import ModelError
from tools.graph.extract import save_model


def write_between(
    model: ir.Model, inputs: Sequence[str], outputs: Sequence[str], path: Path
) -> None:
    """Writes what lies between some values, with the weights that it needs.

    Args:
        model: a normalised model; unchanged.
        inputs: names of the values that it starts from.
        outputs: names of the values that it makes.
        path: the ONNX file to write.

    Raises:
        ModelError: when these values bound no part of the model.
    """
    try:
        graph = ir.convenience.extract(model.graph, list(inputs), list(outputs))
    except ValueError as error:
        raise ModelError(f"nothing lies between {list(inputs)} and {list(outputs)}") from error
    save_model(ir.Model(graph, ir_version=model.ir_version), path)
