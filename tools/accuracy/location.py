"""Finds the first tensor that differs, and the partition that made it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from app.cpu import ANY
from app.engine import WholeModel
from app.runner import Reader, Runner
from app.tensors import Array
from tools.accuracy.difference import compare
from tools.accuracy.readers import RecordingEngine
from tools.errors import ModelError
from tools.graph.extract import save_model, write_with_outputs
from tools.graph.load import Model
from tools.model_folder import ModelFolder
from tools.preparation import prepare


def locate(
    folder: ModelFolder, reader: Reader, inputs: Mapping[str, Array], tolerance: float
) -> str:
    """Runs one input again, recording, and says where the first difference appears.

    Args:
        folder: the model.
        reader: gives the partitions under suspicion.
        inputs: an input whose outputs differ.
        tolerance: largest relative difference that is accepted; 0 asks for equal bits.

    Returns:
        A sentence that names partition, file, tensor and size of the difference.
    """
    plan = folder.plan
    engine = RecordingEngine()
    rows = max((array.shape[0] for array in inputs.values() if array.ndim), default=1)
    growth = max(rows, 1)
    budget_bytes = plan.budget_bytes * growth
    Runner(reader, engine, budget_bytes, plan.inputs, plan.outputs, growth=growth).run(inputs)
    expected = _inner_values(folder, inputs)
    for partition, outputs in zip(plan.partitions, engine.recorded, strict=True):
        for name, array in outputs.items():
            difference = compare({name: expected[name]}, {name: array})
            if not difference.identical and not difference.relative <= tolerance:
                return (
                    f"partition {partition.index} ({partition.file}), tensor {name!r}: differs by "
                    f"{difference.absolute:.3g} ({difference.relative:.3g} relative)"
                )
    return "no boundary tensor differs when it runs again: the result isn't deterministic"


def _inner_values(folder: ModelFolder, inputs: Mapping[str, Array]) -> dict[str, Array]:
    names = [spec.name for partition in folder.plan.partitions for spec in partition.outputs]
    with tempfile.TemporaryDirectory(prefix="cloister-") as scratch:
        path = Path(scratch) / "observed.onnx"
        write_with_outputs(_cut_graph(folder), names, path)
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
        folder.model_path, plan.optimization, dict(plan.dimensions), tile_bytes=plan.tile_bytes
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
