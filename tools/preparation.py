"""A model on its way to the planner: checked, optimised as a whole, sizes known.

Optimising before cutting keeps every fusion and layout change that a cut would
prevent; the partitions then compute bit for bit what the optimised whole model does.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from app.cpu import ANY, this_cpu
from app.engine import EngineError, WholeModel, optimize
from app.limits import KIB, MIB
from app.tensors import Array, TensorSpec
from tools.errors import ModelError
from tools.graph.embedding import tile_tables
from tools.graph.extract import write_with_outputs
from tools.graph.load import Model, load_model, load_optimized
from tools.graph.summary import describe, summarize
from tools.graph.tiling import tile_large_nodes
from tools.planner.plan import Plan
from tools.planner.summary import GraphSummary

_SMALLEST_TILE: Final = 64 * KIB
_LARGEST_TILE: Final = 12 * MIB


@dataclass(frozen=True, slots=True)
class PreparedModel:
    """A model that can be planned and cut.

    Attributes:
        model: normalised, optimised.
        summary: what the planner needs of it.
        optimization: what onnxruntime rewrote.
        cpu: the class of CPU that it is for.
        tile_bytes: operators with more weights were tiled.
    """

    model: Model
    summary: GraphSummary
    optimization: str
    cpu: str
    tile_bytes: int | None

    def plan(self, cutting: Plan) -> Plan:
        """Writes into a plan of this model what was done to the model before."""
        return replace(
            cutting, optimization=self.optimization, cpu=self.cpu, tile_bytes=self.tile_bytes
        )


def prepare(
    path: Path,
    optimization: str,
    dimensions: Mapping[str, int],
    *,
    tile_bytes: int | None,
) -> PreparedModel:
    """Loads, checks, optimises and measures a model.

    Args:
        path: the ONNX file.
        optimization: a key of `app.manifest.OPTIMIZATIONS`.
        dimensions: sizes to plan symbolic dimensions with.
        tile_bytes: operators with more weights are tiled; None leaves all whole.

    Raises:
        ModelError: when the model isn't valid, or onnxruntime refuses it.
        InputError: when a size is given for a dimension that the model doesn't have.
    """
    original = load_model(path)
    plain = summarize(original, dimensions)
    model = original if optimization == "none" else _optimized(path, optimization)
    if tile_bytes is not None:
        tile_large_nodes(model, tile_bytes)
        tile_tables(model, tile_bytes)
    return PreparedModel(
        model=model,
        summary=_summary(model, plain, optimization),
        optimization=optimization,
        cpu=this_cpu() if optimization == "all" else ANY,
        tile_bytes=tile_bytes,
    )


def _summary(model: Model, plain: GraphSummary, optimization: str) -> GraphSummary:
    """Describes a prepared model; what shape inference can't tell is seen in one run of it."""
    summary = summarize(model, plain.dimensions)
    unknown = [name for name in summary.unsized() if name not in plain.unsized()]
    if optimization == "none" or not unknown:
        return summary
    seen = _observe(model, unknown, plain)
    describe(model, {name: _lasting(spec, plain) for name, spec in seen.items()})
    return summarize(model, plain.dimensions, seen)


def _lasting(spec: TensorSpec, plain: GraphSummary) -> TensorSpec:
    """Gives what holds for every request of what was seen in one.

    A value of the original model keeps the symbolic dimensions that it had there; of others
    only element type and rank are known.
    """
    before = plain.values.get(spec.name)
    size = before.bytes_with(plain.dimensions) if before else None
    if before is not None and before.dtype == spec.dtype and size == spec.bytes_with({}):
        return before
    return replace(
        spec, shape=tuple(f"{spec.name}.{axis}" for axis in range(len(spec.shape or ())))
    )


def tile_size(budget_bytes: int) -> int:
    """Gives the most weights that one operator may have: two slots of tiles and the rest must fit.

    Stages of 8 to 16 MiB were the fastest in measurements; smaller ones only pay for
    themselves where the budget is small.
    """
    return max(_SMALLEST_TILE, min(_LARGEST_TILE, budget_bytes // 6))


def _optimized(path: Path, optimization: str) -> Model:
    with tempfile.TemporaryDirectory(prefix="cloister-") as scratch:
        target = Path(scratch) / "optimized.onnx"
        try:
            optimize(path, target, optimization)
        except EngineError as error:
            raise ModelError(f"{path}: onnxruntime can't optimise it: {error}") from error
        return load_optimized(target)


def _observe(model: Model, names: list[str], plain: GraphSummary) -> dict[str, TensorSpec]:
    """Runs the model once and looks at the values that shape inference can't tell."""
    with tempfile.TemporaryDirectory(prefix="cloister-") as scratch:
        path = Path(scratch) / "observed.onnx"
        write_with_outputs(model, names, path)
        inputs = {name: _example(plain.values[name], plain.dimensions) for name in plain.inputs}
        try:
            outputs = WholeModel(path, "none").run(inputs)
        except EngineError as error:
            raise ModelError(f"the optimised model doesn't run: {error}") from error
    return {
        name: TensorSpec(name, array.dtype.name, array.shape)
        for name, array in outputs.items()
        if array.dtype.kind not in "OUS"
    }


def _example(spec: TensorSpec, dimensions: Mapping[str, int]) -> Array:
    shape = [dimensions.get(dim, 1) if isinstance(dim, str) else dim for dim in spec.shape or ()]
    return np.zeros(shape, dtype=spec.dtype)
