"""Whole models in other engines, beside ours, in one process and in turn.

* onnxruntime, as it comes: the ceiling. Nothing is protected or read.
* tract, the engine of the closest published system, from its Python package: the same ONNX
  file, shapes fixed, its own optimiser on. The package gives no way to ask for more than one
  thread, so with two threads it has no number rather than a wrong one.
* ours: partitions from an encrypted bundle inside a budget, as deployed.

Counted is a request from arrays to arrays, after one that isn't counted.
"""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from app.engine import WholeModel
from app.tensors import Array
from tools.bench.campaign import Case, Step
from tools.bench.children import Tell, call_in_child
from tools.bench.results import Row
from tools.bench.runner import SEED, open_runner, request_of
from tools.bench.runner import Case as RunnerCase
from tools.bench.subjects import Cut, Subject, encrypted, in_budget
from tools.errors import BenchmarkError
from tools.model_folder import open_folder

try:
    import tract
except ImportError:  # published for few platforms
    tract = None

ORT: Final = "onnxruntime, whole"
TRACT: Final = "tract, whole"
OURS: Final = "partitions, as deployed"
ENGINES: Final = (ORT, OURS, TRACT)
TOLERANCE: Final = 2e-2
"""Largest relative difference to onnxruntime: other engines sum in another order."""

_TRACT_TYPES: Final = {"float32": "f32", "int64": "i64", "int32": "i32", "bool": "bool"}
Run = Callable[[Mapping[str, Array]], Mapping[str, Array]]


def case_of(
    name: str,
    find: Callable[[str], Subject],
    threads: int,
    rounds: int,
    scratch: Path,
) -> Case:
    """Gives the case of one model with one number of threads."""
    return Case(
        f"{name}, engines, {threads} threads",
        rounds + 1,
        lambda step: _measure(find(name), threads, rounds, scratch, step),
    )


def _measure(subject: Subject, threads: int, rounds: int, scratch: Path, step: Step) -> list[Row]:
    place = scratch / f"{subject.name}-engines-{threads}"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    try:
        folder = in_budget(subject, None, {place / subject.name: Cut(threads=threads)})[0]
        case = RunnerCase(folder.path, encrypted(folder, place / "bundle"), threads, 1, rounds)
        seconds, notes = call_in_child(step, measure_engines, subject.source, case)
    finally:
        shutil.rmtree(place)
    labels = {"model": subject.name, "threads": str(threads)}
    return [
        Row({**labels, "engine": name}, "latency", "s", seconds.get(name, ()), notes.get(name, ""))
        for name in ENGINES
    ]


def measure_engines(
    tell: Tell, source: Path, case: RunnerCase
) -> tuple[dict[str, tuple[float, ...]], dict[str, str]]:
    """Times all engines in turn; gives seconds by engine, and why one has none."""
    folder = open_folder(case.folder)
    request = request_of(folder, SEED)
    resident = WholeModel(source, "all", case.threads, prepack=True)
    runner = open_runner(folder, case)
    runs: dict[str, Run] = {ORT: resident.run, OURS: lambda inputs: runner.run(inputs).outputs}
    notes: dict[str, str] = {}
    try:
        runs[TRACT] = open_tract(source, request, case.threads)
        _compare(resident.run(request), runs[TRACT](request))
    except BenchmarkError as error:
        runs.pop(TRACT, None)
        notes[TRACT] = str(error)
    seconds = in_turn(runs, request, case.rounds, tell)
    runner.close()
    return seconds, notes


def in_turn(
    runs: Mapping[str, Run], request: Mapping[str, Array], rounds: int, tell: Tell
) -> dict[str, tuple[float, ...]]:
    """Runs all once a round in an order drawn anew; the first round isn't counted."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    draw = random.Random(SEED)  # noqa: S311 - an order, not a secret
    for number in range(rounds + 1):
        for name in draw.sample(list(runs), len(runs)):
            started = time.perf_counter()
            runs[name](request)
            if number:
                seconds[name].append(time.perf_counter() - started)
        tell(number)
    return {name: tuple(times) for name, times in seconds.items()}


def open_tract(source: Path, request: Mapping[str, Array], threads: int = 1) -> Run:
    """Opens a model in tract for inputs of these shapes.

    Raises:
        BenchmarkError: when the package isn't there, or can't run the model or so many threads.
    """
    if tract is None:
        raise BenchmarkError("not available: the package 'tract' isn't installed")
    if threads > 1:
        raise BenchmarkError("not available: tract's Python package runs one thread")
    try:
        return _tract_run(source, request)
    except tract.TractError as error:
        raise BenchmarkError(f"not available: tract refuses the model: {_first(error)}") from error


def _tract_run(source: Path, request: Mapping[str, Array]) -> Run:
    model = tract.onnx().load(str(source))
    order: Sequence[str] = [model.input_name(place) for place in range(model.input_count())]
    for place, name in enumerate(order):
        array = request[name]
        sizes = [str(size) for size in array.shape]
        model.set_input_fact(place, ",".join([*sizes, _TRACT_TYPES[array.dtype.name]]))
    names = [model.output_name(place) for place in range(model.output_count())]
    runnable = model.into_model().into_runnable()

    def run(inputs: Mapping[str, Array]) -> dict[str, Array]:
        outputs = runnable.run([np.ascontiguousarray(inputs[name]) for name in order])
        return {n: o.to_numpy() for n, o in zip(names, outputs, strict=True)}

    run(request)
    return run


def _compare(expected: Mapping[str, Array], actual: Mapping[str, Array]) -> None:
    """Compares in the order of the outputs: tract gives them names of its own."""
    for (name, array), other in zip(expected.items(), actual.values(), strict=True):
        if array.dtype.kind != "f":
            continue
        scale = float(np.abs(array).max()) or 1.0
        difference = float(np.abs(array - other.reshape(array.shape)).max()) / scale
        if not difference <= TOLERANCE:
            raise BenchmarkError(
                f"not available: output {name!r} differs from onnxruntime's by {difference:.2g} "
                "of its largest value"
            )


def _first(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__
