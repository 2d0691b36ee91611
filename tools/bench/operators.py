"""Every operator of a model alone, in onnxruntime and in tract: time, memory, and their ratio.

Each operator becomes a model of its own, gets the values that it gets in one run of the whole
model, and runs in both engines in turn, with one thread. Memory is the growth of the process's
peak while an engine opens and runs it once, after freed memory was given back.
"""

from __future__ import annotations

import ctypes
import gc
import json
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from app.engine import EngineError, WholeModel
from app.tensors import Array
from tools.bench.campaign import Case, Step
from tools.bench.children import Tell, call_in_child
from tools.bench.memory import peak_bytes, reset_peak, resident_bytes
from tools.bench.peers import Run, in_turn, open_tract
from tools.bench.results import Row
from tools.bench.runner import SEED, request_for
from tools.bench.subjects import Subject
from tools.errors import BenchmarkError, ModelError
from tools.files import write_file
from tools.graph.extract import write_with_outputs
from tools.graph.single import write_between
from tools.planner.isolation import ISOLATE_FORMAT
from tools.planner.summary import NodeSummary
from tools.preparation import PreparedModel, prepare

ORT: Final = "onnxruntime"
TRACT: Final = "tract"
THRESHOLD: Final = 12.0
"""Ratio from which the literature calls an operator memory-intensive."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What one operator did in the engines that could run it.

    Attributes:
        seconds: of each run, by engine.
        memory_bytes: growth of the peak, by engine.
        notes: why an engine has no numbers.
    """

    seconds: Mapping[str, tuple[float, ...]]
    memory_bytes: Mapping[str, int]
    notes: Mapping[str, str]

    @property
    def ratio(self) -> float | None:
        """Median over the rounds of tract's time by onnxruntime's; None without both."""
        if not {ORT, TRACT} <= self.seconds.keys():
            return None
        pairs = zip(self.seconds[TRACT], self.seconds[ORT], strict=True)
        return statistics.median(tract / ort for tract, ort in pairs)


def case_of(name: str, find: Callable[[str], Subject], rounds: int) -> Case:
    """Gives the case of one model."""
    return Case(f"{name}, operators", 1, lambda step: _measure(find(name), rounds, step))


def _measure(subject: Subject, rounds: int, step: Step) -> list[Row]:
    found = call_in_child(lambda: None, measure_operators, subject.source, rounds)
    step()
    return [
        row
        for node, measured in found
        for row in _rows({"model": subject.name, "operator": node.name}, node, measured)
    ]


def _rows(labels: dict[str, str], node: NodeSummary, measured: Measured) -> list[Row]:
    labels = {**labels, "type": node.op_type}
    rows = []
    for engine in (ORT, TRACT):
        note = measured.notes.get(engine, "")
        memory = measured.memory_bytes.get(engine)
        of_engine = {**labels, "engine": engine}
        rows.append(Row(of_engine, "time", "s", measured.seconds.get(engine, ()), note))
        sizes = () if memory is None else (float(memory),)
        rows.append(Row(of_engine, "memory", "bytes", sizes, note))
    ratio = measured.ratio
    note = "" if ratio is not None else "one engine alone ran it"
    return [*rows, Row(labels, "ratio", "", () if ratio is None else (ratio,), note)]


def measure_operators(tell: Tell, source: Path, rounds: int) -> list[tuple[NodeSummary, Measured]]:
    """Measures all operators of a model, in its order."""
    prepared = prepare(source, "none", {}, tile_bytes=None)
    values = _values(prepared)
    with tempfile.TemporaryDirectory(prefix="cloister-") as scratch:
        path = Path(scratch) / "operator.onnx"
        found = []
        for number, node in enumerate(prepared.summary.nodes):
            found.append((node, _measure_operator(prepared, node, values, path, rounds)))
            tell(number)
    return found


def _values(prepared: PreparedModel) -> dict[str, Array]:
    """Gives every tensor of one run of the model on seeded inputs."""
    summary = prepared.summary
    request = request_for(
        [summary.values[name] for name in summary.inputs], summary.dimensions, SEED
    )
    made = [n for node in summary.nodes for n in node.outputs if n in summary.values]
    with tempfile.TemporaryDirectory(prefix="cloister-") as scratch:
        path = Path(scratch) / "values.onnx"
        write_with_outputs(prepared.model, made, path)
        return {**request, **WholeModel(path, "none").run(request)}


def _measure_operator(
    prepared: PreparedModel,
    node: NodeSummary,
    values: Mapping[str, Array],
    path: Path,
    rounds: int,
) -> Measured:
    notes: dict[str, str] = {}
    memory: dict[str, int] = {}
    runs: dict[str, Run] = {}
    reads = [name for name in node.inputs if name not in prepared.summary.weight_bytes and name]
    inputs = {name: values[name] for name in reads if name in values}
    if len(inputs) != len(set(reads)):
        return _impossible("it reads what isn't a tensor")
    try:
        write_between(prepared.model, list(inputs), [n for n in node.outputs if n], path)
    except ModelError as error:
        return _impossible(str(error))
    openers: dict[str, Callable[[], Run]] = {
        ORT: lambda: WholeModel(path, "all", prepack=True).run,
        TRACT: lambda: open_tract(path, inputs),
    }
    for engine, opener in openers.items():
        try:
            runs[engine], memory[engine] = _opened(opener, inputs)
        except (BenchmarkError, EngineError, KeyError) as error:
            notes[engine] = f"not available: {str(error).removeprefix('not available: ')[:200]}"
    return Measured(in_turn(runs, inputs, rounds, lambda _: None), memory, notes)


def _impossible(reason: str) -> Measured:
    return Measured({}, {}, dict.fromkeys((ORT, TRACT), f"not available: {reason}"))


def _opened(opener: Callable[[], Run], inputs: Mapping[str, Array]) -> tuple[Run, int]:
    """Opens and runs once; gives what to run, and how far the peak of memory rose."""
    gc.collect()
    _give_back()
    before = resident_bytes()
    reset_peak()
    baseline = peak_bytes()
    run = opener()
    run(inputs)
    return run, max(0, peak_bytes() - max(baseline, before))


def _give_back() -> None:
    """Lets the C library return freed memory, so that the next operator can't hide in it."""
    ctypes.CDLL(None).malloc_trim(0)


def above(rows: Sequence[Row], threshold: float) -> list[tuple[str, float]]:
    """Gives the operators whose ratio reaches a threshold, with it, the largest first."""
    found = [
        (row.labels["operator"], row.median)
        for row in rows
        if row.metric == "ratio" and row.samples and row.median >= threshold
    ]
    return sorted(found, key=lambda each: (-each[1], each[0]))


def write_isolated(path: Path, model: str, rows: Sequence[Row], threshold: float) -> int:
    """Writes the operators that the planner is to keep apart; gives their number.

    The file: {"format": 1, "model": …, "threshold": 12.0, "operators": [name, …]}.
    """
    found = above([row for row in rows if row.labels.get("model") == model], threshold)
    content = {
        "format": ISOLATE_FORMAT,
        "model": model,
        "threshold": threshold,
        "operators": [name for name, _ in found],
    }
    write_file(path, (json.dumps(content, indent=1) + "\n").encode())
    return len(found)
