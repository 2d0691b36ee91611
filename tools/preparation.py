"""A model on its way to the planner: checked, optimised as a whole, sizes known.

Optimising before cutting keeps every fusion and layout change that a cut would
prevent; the partitions then compute bit for bit what the optimised whole model does.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from app.cpu import ANY, this_cpu
from app.engine import EngineError, WholeModel, optimize
from app.limits import KIB, MIB
from app.tensors import Array, TensorSpec, numpy_dtype
from tools.errors import ModelError
from tools.graph.detached import inner_outputs, shapes_as_outputs
from tools.graph.load import Model, load_model, load_optimized
from tools.graph.mapped import read_light
from tools.graph.reorder import reorder
from tools.graph.summary import describe, summarize
from tools.graph.tiling.regions import tile_regions
from tools.graph.tiling.room import least_budget, rooms
from tools.graph.tiling.weights import tile_weights
from tools.graph.types import computes_in_float16
from tools.planner.order import best_order, reordered
from tools.planner.plan import Plan
from tools.planner.summary import GraphSummary
from tools.supplied import followed

_SMALLEST_TILE: Final = 64 * KIB
_LARGEST_TILE: Final = 12 * MIB
_MOST_TILES: Final = 4096
"""Of a whole model: a budget that needs more is hopeless, and is refused sooner so."""


@dataclass(frozen=True, slots=True)
class PreparedModel:
    """A model that can be planned and cut.

    Attributes:
        model: normalised, optimised.
        summary: what the planner needs of it.
        optimization: what onnxruntime rewrote.
        cpu: the class of CPU that it is for.
        tile_bytes: operators with more weights were tiled.
        row_bytes: room for tensors that regions were tiled by rows for; None: none were.
    """

    model: Model
    summary: GraphSummary
    optimization: str
    cpu: str
    tile_bytes: int | None
    row_bytes: int | None = None

    def plan(self, cutting: Plan) -> Plan:
        """Writes into a plan of this model what was done to the model before."""
        return replace(
            cutting,
            optimization=self.optimization,
            cpu=self.cpu,
            tile_bytes=self.tile_bytes,
            row_bytes=self.row_bytes,
        )


def prepare(
    path: Path,
    optimization: str,
    dimensions: Mapping[str, int],
    *,
    tile_bytes: int | None,
    budget_bytes: int | None = None,
    lock_step: int = 1,
    row_bytes: int | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> PreparedModel:
    """Loads, checks, optimises, measures and orders a model.

    Args:
        path: the ONNX file.
        optimization: a key of `app.manifest.OPTIMIZATIONS`.
        dimensions: sizes to plan symbolic dimensions with.
        tile_bytes: operators with more weights are tiled; None leaves all whole.
        budget_bytes: where tensors don't fit in it, regions are tiled by rows until they do.
        lock_step: requests whose tensors have to fit together.
        row_bytes: tiles regions by rows for this room, as a plan says that it was done.
        say: told what is done next, for people who wait.

    Raises:
        ModelError: when the model isn't valid, or onnxruntime refuses it.
        InputError: when a size is given for a dimension that the model doesn't have.
    """
    path = followed(path)
    say("loading")
    original = load_model(path)
    plain = summarize(original, dimensions)
    say("optimising")
    as_it_is = optimization == "none" and not computes_in_float16(original)
    model = original if as_it_is else _optimized(path, optimization)

    work = _Tiling(model, plain, optimization, say)
    if budget_bytes is not None and tile_bytes is not None:
        tile_bytes = max(tile_bytes, sum(plain.weight_bytes.values()) // _MOST_TILES)
        return work.fitted(tile_bytes, budget_bytes, lock_step)
    prepared = work.tiled(tile_bytes)
    return prepared if row_bytes is None else _tiled_by_rows(prepared, row_bytes)


@dataclass(frozen=True, slots=True)
class _Tiling:
    """Tiles and orders an optimised model, which stays as it is."""

    model: Model
    plain: GraphSummary
    optimization: str
    say: Callable[[str], None]

    def fitted(self, tile_bytes: int, budget_bytes: int, lock_step: int) -> PreparedModel:
        """Tiles weights; then, where tensors are too large, by rows until a plan fits.

        Smaller tiles of weights leave more room for tensors. When nothing fits, the try that
        comes closest shows what the model needs.
        """
        prepared = self.tiled(tile_bytes)
        least = least_budget(prepared.summary, budget_bytes, lock_step)
        if least == budget_bytes:
            return prepared
        self.say("tiling by rows")
        closest = prepared
        for less in (1, 2):
            prepared = prepared if less == 1 else self.tiled(max(1, tile_bytes // less))
            for row_bytes in rooms(prepared.summary, budget_bytes):
                by_rows = _tiled_by_rows(prepared, row_bytes)
                needed = least_budget(by_rows.summary, budget_bytes, lock_step)
                if needed == budget_bytes:
                    return by_rows
                if needed < least:
                    closest, least = by_rows, needed
        return closest

    def tiled(self, tile_bytes: int | None) -> PreparedModel:
        """Tiles operators with more weights, and orders all."""
        model, untiled = self.model.clone(), {}
        if tile_bytes is not None:
            found = tile_weights(model, tile_bytes)
            untiled = {each.node: each.reason for each in found if each.reason}
        self.say("measuring tensors")
        summary = _summary(model, self.plain, self.optimization)
        self.say("ordering")
        order = best_order(summary)
        reorder(model, order)
        return PreparedModel(
            model=model,
            summary=replace(reordered(summary, order), untiled=untiled),
            optimization=self.optimization,
            cpu=this_cpu() if self.optimization == "all" else ANY,
            tile_bytes=tile_bytes,
        )


def _tiled_by_rows(prepared: PreparedModel, row_bytes: int) -> PreparedModel:
    model, before = prepared.model.clone(), prepared.summary
    seams = tile_regions(model, before, row_bytes)
    if not seams:
        return prepared
    seen = {
        name: replace(before.values[name], shape=shape)
        for name, shape in before.observed_shapes.items()
    }
    summary = replace(
        summarize(model, before.dimensions, seen), seams=seams, untiled=before.untiled
    )
    return replace(prepared, model=model, summary=summary, row_bytes=row_bytes)


def _summary(model: Model, plain: GraphSummary, optimization: str) -> GraphSummary:
    """Describes a prepared model; what shape inference can't tell is seen in one run of it."""
    summary = summarize(model, plain.dimensions)
    never_known = set(plain.unsized())
    unknown = [name for name in summary.unsized() if name not in never_known]
    if optimization == "none" or not unknown:
        return summary
    seen = _observe(model, unknown, plain)
    # Where no size depends on the request, what was seen in one holds for all.
    lasting = seen if _is_fixed(plain) else {n: _lasting(s, plain) for n, s in seen.items()}
    describe(model, lasting)
    return summarize(model, plain.dimensions, seen)


def _is_fixed(plain: GraphSummary) -> bool:
    shapes = [spec.shape for spec in plain.values.values()]
    return not plain.unsized() and all(
        shape is not None and all(isinstance(dim, int) for dim in shape) for shape in shapes
    )


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


def tile_size(budget_bytes: int, objective: str = "time") -> int:
    """Gives the most weights that one operator may have: two slots of tiles and the rest must fit.

    Stages of 8 to 16 MiB were the fastest in measurements; smaller ones only pay for
    themselves where the budget is small, or where few partitions are wanted, which smaller
    tiles fill better.

    Args:
        budget_bytes: for all memory of the model.
        objective: one of `tools.planner.planner.OBJECTIVES`.
    """
    share = 12 if objective == "partitions" else 6
    return max(_SMALLEST_TILE, min(_LARGEST_TILE, budget_bytes // share))


def _optimized(path: Path, optimization: str) -> Model:
    with tempfile.TemporaryDirectory(prefix="cloister-") as scratch:
        target = Path(scratch) / "optimized.onnx"
        try:
            optimize(read_light(path), path.parent, target, optimization)
        except EngineError as error:
            raise ModelError(
                f"{path}: onnxruntime can't optimise it: {error}; '--optimization none' cuts it "
                "as it is"
            ) from error
        return load_optimized(target, path.parent)


def _observe(model: Model, names: list[str], plain: GraphSummary) -> dict[str, TensorSpec]:
    """Asks onnxruntime for what shape inference can't tell, and runs the model if it must."""
    shapes = {name: _planned_shape(plain.values[name], plain.dimensions) for name in plain.inputs}
    try:
        told = WholeModel(inner_outputs(model, names, shapes), "none").outputs
        specs = {spec.name: spec for spec in told if spec.dtype != "string"}
        unsure = [name for name, spec in specs.items() if "" in (spec.shape or ())]
        if unsure:
            graph, weights, outputs = shapes_as_outputs(model, unsure)
            inputs = {n: _example(plain.values[n].dtype, shape) for n, shape in shapes.items()}
            found = WholeModel(graph, "none").run({**inputs, **weights})
            for name, output in zip(unsure, outputs, strict=True):
                specs[name] = replace(specs[name], shape=tuple(found[output].tolist()))
    except EngineError as error:
        raise ModelError(f"the optimised model doesn't run: {error}") from error
    return specs


def _planned_shape(spec: TensorSpec, dimensions: Mapping[str, int]) -> list[int]:
    return [dimensions.get(dim, 1) if isinstance(dim, str) else dim for dim in spec.shape or ()]


def _example(dtype: str, shape: Sequence[int]) -> Array:
    if dtype == "string":
        return np.full(shape, "", dtype=object)
    return np.zeros(shape, numpy_dtype(dtype))
