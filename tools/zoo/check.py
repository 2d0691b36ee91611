"""Checks that a zoo model is what its name says, and alive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from app.engine import WholeModel
from app.tensors import Array, TensorSpec
from tools.accuracy.difference import compare
from tools.graph.build import count_parameters
from tools.graph.load import load_model
from tools.graph.summary import summarize
from tools.model_folder import MODEL_FILE
from tools.zoo.inputs import KINDS, example_inputs
from tools.zoo.registry import Entry

Outputs = dict[str, list[dict[str, Array]]]
"""Outputs by name, for each input of each kind."""

INPUTS: Final = 4
"""Of each kind."""
LEAST_SPREAD: Final = 0.04
"""A dead network has 0; one whose outputs have nothing to do with each other has 0.87 for 4
inputs. The zoo's models lie between 0.07 and 0.81."""
MOST_ROUNDING: Final = 1e-4
"""Largest change by onnxruntime's optimisations, relative to the largest output: a chaotic network
makes more of rounding errors, and comparisons with it tell nothing. The zoo stays below 6e-5."""
MOST_PROBABILITY: Final = 0.99
"""Softmax that is surer than this of one class hides differences below it."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What was measured.

    Attributes:
        parameters: counted in the file.
        nodes: operators after loading.
        size_bytes: of the ONNX file.
        spread: the smallest of all outputs and kinds of inputs, see `spread`.
        rounding: the largest change by optimisations, see `MOST_ROUNDING`.
        problems: what is wrong, empty when the model is sound.
    """

    parameters: int
    nodes: int
    size_bytes: int
    spread: float
    rounding: float
    problems: tuple[str, ...]


def check(entry: Entry, folder: Path) -> Findings:
    """Checks a model's file by the rules of ONNX, counts its parameters, runs it.

    Args:
        entry: what it should be.
        folder: the model's.

    Raises:
        ModelError: when the file isn't a valid model.
    """
    path = folder / MODEL_FILE
    model = load_model(path)
    parameters = count_parameters(model)
    summary = summarize(model)
    inputs = [summary.values[name] for name in summary.inputs]
    outputs = _run(entry, inputs, WholeModel(path, "none"))
    rounding = _rounding(outputs, _run(entry, inputs, WholeModel(path, "all")))
    spreads = {
        f"{name}, {kind}": spread([each[name] for each in outputs[kind]])
        for kind in KINDS
        for name in summary.outputs
    }
    problems = [*_count_problems(entry, parameters), *_spread_problems(spreads)]
    if rounding > MOST_ROUNDING:
        problems.append(f"chaotic: optimisations change an output by {rounding:.1e} of it")
    if entry.scores == "probabilities":
        scores = summary.outputs[0]
        problems += _certainty_problems([each[scores] for kind in KINDS for each in outputs[kind]])
    return Findings(
        parameters=parameters,
        nodes=len(summary.nodes),
        size_bytes=path.stat().st_size,
        spread=min(spreads.values()),
        rounding=rounding,
        problems=tuple(problems),
    )


def _run(entry: Entry, inputs: Sequence[TensorSpec], model: WholeModel) -> Outputs:
    return {
        kind: [
            model.run(example_inputs(inputs, entry.ranges, kind, f"check {number}"))
            for number in range(INPUTS)
        ]
        for kind in KINDS
    }


def _rounding(expected: Outputs, actual: Outputs) -> float:
    # Not of flat pictures: onnxruntime's optimised mean of a channel adds equal numbers up one by
    # one, and their rounding errors don't cancel out: 1e-4 of the mean of 112×112 numbers alone.
    return max(
        compare(reference, found).relative
        for kind in ("picture", "noise")
        for reference, found in zip(expected[kind], actual[kind], strict=True)
    )


def spread(outputs: Sequence[Array]) -> float:
    """Says how much outputs for different inputs differ.

    Returns:
        Root mean square of what is left of the outputs without their mean over the inputs,
        divided by that of the outputs: 0 when they are all the same, towards 1 when they have
        nothing in common; NaN when one isn't finite.
    """
    stacked = np.stack(outputs).astype(np.float64)
    if not np.isfinite(stacked).all():
        return float("nan")
    size = float(np.sqrt(np.mean(stacked**2)))
    return float(np.sqrt(np.mean((stacked - stacked.mean(axis=0)) ** 2))) / size if size else 0.0


def _count_problems(entry: Entry, parameters: int) -> list[str]:
    if abs(parameters - entry.parameters) <= entry.tolerance * entry.parameters:
        return []
    return [f"{parameters} parameters, published are {entry.parameters}"]


def _spread_problems(spreads: dict[str, float]) -> list[str]:
    found = []
    for name, value in spreads.items():
        if np.isnan(value):
            found.append(f"output {name}: isn't finite")
        elif value < LEAST_SPREAD:
            found.append(f"output {name}: hardly depends on the input, spread {value:.3f}")
    return found


def _certainty_problems(outputs: Sequence[Array]) -> list[str]:
    largest = max(float(output.max()) for output in outputs)
    if largest <= MOST_PROBABILITY:
        return []
    return [f"a probability of {largest:.4f}: the scores are saturated"]
