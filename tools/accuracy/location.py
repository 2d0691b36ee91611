"""Finds the first value that differs: the partition, the operator in it, and the number."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from app.cpu import ANY
from app.engine import EngineError, WholeModel
from app.runner import Reader
from app.tensors import Array, widened
from tools.accuracy.deployment import running
from tools.accuracy.difference import compare
from tools.accuracy.element import Element, worst_element
from tools.accuracy.readers import RecordingEngine
from tools.errors import ModelError
from tools.graph.extract import save_model, write_with_outputs
from tools.graph.load import Model
from tools.graph.observation import Operator, constant, operators, read_partition, write_region
from tools.model_folder import ModelFolder
from tools.planner.plan import Partition
from tools.preparation import prepare

WINDOW: Final = 64
"""Operators whose values are looked at in one run: memory holds all of them at once. A difference
may vanish and come back, so windows are taken in order, not by halves."""

Values = Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class Location:
    """Where a difference first appears.

    Attributes:
        partition: index of the first partition with an output that differs.
        file: its file.
        operator, op_type: of the first operator inside it that gives another value; "" when each
            of them computes alone what the whole model computes.
        tensor: the first value that differs.
        element: the number in it that is furthest off; None when they can't be compared.
        absolute, relative: largest difference in the tensor, as `Difference` has them.
        cause: what is known of why; "" when nothing is.
    """

    partition: int
    file: str
    operator: str
    op_type: str
    tensor: str
    element: Element | None
    absolute: float
    relative: float
    cause: str

    def __str__(self) -> str:
        """Says it in one sentence."""
        operator = f"operator {self.operator!r} ({self.op_type}), " if self.operator else ""
        element = f" {self.element}," if self.element else ""
        cause = f"; {self.cause}" if self.cause else ""
        return (
            f"partition {self.partition} ({self.file}), {operator}value {self.tensor!r}{element} "
            f"differs by {self.absolute:.3g} ({self.relative:.3g} relative){cause}"
        )


def locate(
    folder: ModelFolder, reader: Reader, inputs: Values, tolerance: float
) -> Location | None:
    """Runs one input again, recording, and finds where the first difference appears.

    Args:
        folder: the model.
        reader: gives the partitions under suspicion.
        inputs: an input whose outputs differ.
        tolerance: largest relative difference that is accepted; 0 asks for equal bits.

    Returns:
        The place; None when nothing differs this time.

    Raises:
        ModelError: when the whole model isn't the one that was cut.
        ExecutionError: when a partition doesn't run.
    """
    recorded = _record(folder, reader, inputs)
    cut = _cut_graph(folder)
    expected = _inner_values(folder, cut, inputs)
    for partition, outputs in zip(folder.plan.partitions, recorded, strict=True):
        for name, array in outputs.items():
            if found := _place(partition, name, expected[name], array, tolerance):
                return _look_inside(folder, cut, partition, {**inputs, **expected}, found)
    return None


def _record(folder: ModelFolder, reader: Reader, inputs: Values) -> list[dict[str, Array]]:
    engine = RecordingEngine()
    rows = max((array.shape[0] for array in inputs.values() if array.ndim), default=1)
    with running(folder, reader, growth=max(rows, 1), overlap=False, engine=engine) as runner:
        runner.run(inputs)
    return engine.recorded


def _place(
    partition: Partition, name: str, expected: Array, actual: Array, tolerance: float
) -> Location | None:
    difference = compare({name: expected}, {name: actual})
    if difference.identical or difference.relative <= tolerance:
        return None
    return Location(
        partition=partition.index,
        file=partition.file,
        operator="",
        op_type="",
        tensor=name,
        element=worst_element(expected, actual),
        absolute=difference.absolute,
        relative=difference.relative,
        cause="",
    )


def _look_inside(
    folder: ModelFolder, cut: Model, partition: Partition, values: Values, found: Location
) -> Location:
    """Narrows a partition down to an operator, by running it alone on the right inputs."""
    part = read_partition(folder.partition_path(partition.index))
    given = {spec.name: values[spec.name] for spec in partition.inputs}
    found_operators = operators(part)
    for start in range(0, len(found_operators), WINDOW):
        window = found_operators[start : start + WINDOW]
        names = [name for each in window for name in each.outputs]
        whole, alone = (_run_region(model, given, names) for model in (cut, part))
        for operator in window:
            for name in operator.outputs:
                if not isinstance(whole[name], np.ndarray):
                    continue  # sequences and the like
                if inner := _place(partition, name, whole[name], alone[name], 0.0):
                    cause = _cause(cut, part, operator)
                    return replace(
                        inner, operator=operator.name, op_type=operator.op_type, cause=cause
                    )
    return replace(
        found,
        cause="each of its operators computes alone what the whole model's does, so the "
        "difference comes from how the partition is stored or loaded, or adds up from before",
    )


def _run_region(model: Model, given: Values, names: Sequence[str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="cloister-") as scratch:
        path = Path(scratch) / "region.onnx"
        write_region(model, list(given), names, path)
        try:
            return dict(WholeModel(path, "none").run(given))
        except EngineError as error:
            raise ModelError(f"the values inside can't be looked at: {error}") from error


def _cause(cut: Model, part: Model, operator: Operator) -> str:
    """Compares the constants that an operator reads with those of the whole model."""
    for name in operator.constants:
        expected, actual = constant(cut, name), constant(part, name)
        if expected is None or actual is None:
            return f"its weight {name!r} has no counterpart in the whole model"
        if difference := "; ".join(_weight_difference(expected, actual)):
            return f"its weight {name!r} isn't the whole model's: {difference}"
    twin = next((each for each in operators(cut) if each.outputs == operator.outputs), None)
    if twin is None or twin.op_type != operator.op_type:
        return f"the whole model has {twin.op_type if twin else 'nothing'} in its place"
    return "its weights are the whole model's, so its attributes aren't"


def _weight_difference(expected: Array, actual: Array) -> Iterator[str]:
    if expected.shape != actual.shape or expected.dtype != actual.dtype:
        yield (
            f"{actual.dtype} {list(actual.shape)} instead of "
            f"{expected.dtype} {list(expected.shape)}"
        )
        return
    expected, actual = widened(expected), widened(actual)
    element = worst_element(expected, actual)
    if element is None:
        return
    other = expected != actual
    yield f"{np.count_nonzero(other)} of {other.size} numbers differ, the furthest {element}"
    # A weight of 0 stays 0 however it is scaled.
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = (actual[other].astype(np.float64) / expected[other]).reshape(-1)
    if np.isfinite(ratios).all() and np.allclose(ratios, ratios[0], rtol=1e-3):
        yield f"each is {ratios[0]:.6g} times the right one"


def _inner_values(folder: ModelFolder, cut: Model, inputs: Values) -> dict[str, Array]:
    names = [spec.name for partition in folder.plan.partitions for spec in partition.outputs]
    with tempfile.TemporaryDirectory(prefix="cloister-") as scratch:
        path = Path(scratch) / "observed.onnx"
        write_with_outputs(cut, names, path)
        return WholeModel(path, "none").run(inputs)


def write_cut_graph(folder: ModelFolder, path: Path) -> Path:
    """Writes the whole graph that the partitions were cut from.

    Raises:
        ModelError: when this machine or this onnxruntime makes another graph than the plan's.
    """
    save_model(_cut_graph(folder), path)
    return path


def _cut_graph(folder: ModelFolder) -> Model:
    plan = folder.plan
    prepared = prepare(
        folder.model_path,
        plan.optimization,
        dict(plan.dimensions),
        tile_bytes=plan.tile_bytes,
        row_bytes=plan.row_bytes,
    )
    if plan.cpu not in (ANY, prepared.cpu):
        raise ModelError(
            f"{folder.path}: planned for CPUs of the class {plan.cpu}, this one is {prepared.cpu}"
        )
    count = plan.partitions[-1].stop
    if len(prepared.summary.nodes) != count:
        raise ModelError(
            f"{folder.path}: the plan cuts a graph of {count} operators, this machine's "
            f"onnxruntime makes one of {len(prepared.summary.nodes)}; partition the model anew"
        )
    return prepared.model
