"""Scales seeded weights by what they do to a few inputs, operator after operator.

Drawn weights alone let signals grow, vanish or become the same for every input in deep networks.
So the network runs once, an operator at a time, and each layer is corrected before the next one
runs: what Mishkin and Matas (2016, arXiv 1511.06422) call layer-sequential unit variance, with
running statistics measured as training would and biases that centre each channel. Residual
branches are damped by the root of their number: undamped, a deep network is chaotic, and rounding
errors of 1e-7 come out as errors of 1e-3 and more, which no trained network does.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from app.engine import WholeModel
from app.tensors import Array
from tools.errors import ModelError
from tools.graph.build import Network, Operator, operator_bytes
from tools.zoo.residual import LINEAR, branch_ends
from tools.zoo.weights import Weights, viewed

_SCORES_SIZE: Final = 2.0
"""Of scores: softmax over them prefers some classes without being sure of one."""
_LEAST_VARIANCE: Final = 0.01
"""Share of a layer's mean variance that each channel has at least, so none is blown up."""


def calibrate(
    network: Network,
    weights: Weights,
    inputs: Sequence[Mapping[str, Array]],
    progress: Callable[[int], None],
) -> None:
    """Changes weights in place until every layer's outputs have a size near 1.

    Args:
        network: the architecture.
        weights: of the network; biases, scales and running statistics change too.
        inputs: what to measure with, run side by side.
        progress: called with the number of operators done.

    Raises:
        ModelError: when a layer gives the same number everywhere.
    """
    run = _Run(network, weights, inputs)
    scaled = _scaled(network)
    ends = branch_ends(network)
    damping = float(max(len(ends), 1) ** -0.5)
    for index, operator in enumerate(network.operators):
        if operator.op_type == "BatchNormalization":
            _set_statistics(operator, weights, run.values(operator.inputs[0]))
            if operator.name in ends:
                for name in operator.inputs[1:3]:
                    weights[name] *= np.float32(damping)
        outputs = run.step(operator)
        if operator.name in scaled[:-1]:
            _adjust(operator, run, outputs, damping if operator.name in ends else 1.0)
        elif operator.name in scaled:
            _adjust_scores(operator, run, outputs)
        run.drop_dead(index)
        progress(index + 1)


def _scaled(network: Network) -> list[str]:
    """Gives the linear layers whose weights are theirs alone and not normalised away."""
    views = viewed(network)
    uses = Counter(name for operator in network.operators for name in operator.inputs)
    normalized = {
        operator.inputs[0]
        for operator in network.operators
        if operator.op_type == "BatchNormalization"
    }
    return [
        operator.name
        for operator in network.operators
        if operator.op_type in LINEAR
        and (weight := views.get(operator.inputs[1], operator.inputs[1])) in network.weights
        and uses[weight] == 1
        and not (operator.outputs[0] in normalized and uses[operator.outputs[0]] == 1)
    ]


class _Run:
    """Runs a network operator by operator for several inputs at once."""

    def __init__(
        self, network: Network, weights: Weights, inputs: Sequence[Mapping[str, Array]]
    ) -> None:
        self.views = viewed(network)
        self.weights = weights
        self._network = network
        self._live: list[dict[str, Array]] = [dict(each) for each in inputs]
        self._last_use = {
            name: index
            for index, operator in enumerate(network.operators)
            for name in operator.inputs
        }

    def values(self, name: str) -> list[Array]:
        """Gives a live value for each of the inputs."""
        return [live[name] for live in self._live]

    def step(self, operator: Operator) -> list[Array]:
        """Runs an operator; gives its first output for each of the inputs."""
        fixed = {**self._network.constants, **self.weights}
        needed = [name for name in operator.inputs if name]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "operator.onnx"
            example = {**fixed, **self._live[0]}
            path.write_bytes(operator_bytes(operator, self._network.opset, example))
            model = WholeModel(path, "none")
        for live in self._live:
            known = {**fixed, **live}
            live.update(model.run({name: known[name] for name in needed}))
        return self.values(operator.outputs[0])

    def scale_view(self, name: str, scale: np.float32) -> None:
        """Scales a weight and what was made of it by turning it round."""
        self.weights[self.views.get(name, name)] *= scale
        for live in self._live:
            if name in live:
                live[name] = live[name] * scale

    def drop_dead(self, index: int) -> None:
        """Forgets what no operator after this one reads."""
        for live in self._live:
            for name in [name for name in live if self._last_use.get(name, -1) <= index]:
                del live[name]


def _set_statistics(operator: Operator, weights: Weights, values: Sequence[Array]) -> None:
    """Makes running mean and variance those of the inputs."""
    channels = _by_channel(values)
    variance = channels.var(axis=1, dtype=np.float64)
    least = _LEAST_VARIANCE * variance.mean()
    if not least > 0:
        raise ModelError(f"operator {operator.name!r} gets the same number everywhere")
    weights[operator.inputs[3]][:] = channels.mean(axis=1, dtype=np.float64)
    weights[operator.inputs[4]][:] = np.maximum(variance, least)


def _adjust(operator: Operator, run: _Run, outputs: Sequence[Array], size: float) -> None:
    """Scales a layer's weight to outputs of this size, then centres each channel by its bias.

    What is common to all inputs counts as size, or a layer that sees next to no difference
    between them would blow it up.
    """
    _scale(operator, run, outputs, size / _size(operator, outputs))
    _centre(operator, run, outputs)


def _adjust_scores(operator: Operator, run: _Run, outputs: Sequence[Array]) -> None:
    """Centres each class by the last layer's bias, then scales what is left: it has to differ."""
    _centre(operator, run, outputs)
    _scale(operator, run, outputs, _SCORES_SIZE / _size(operator, outputs))


def _scale(operator: Operator, run: _Run, outputs: Sequence[Array], scale: float) -> None:
    """Scales weight, bias and, as if the layer had run again, its outputs."""
    run.scale_view(operator.inputs[1], np.float32(scale))
    for bias in operator.inputs[2:3]:
        run.weights[bias] *= np.float32(scale)
    for output in outputs:
        np.multiply(output, np.float32(scale), out=output)


def _centre(operator: Operator, run: _Run, outputs: Sequence[Array]) -> None:
    """Gives each channel the drawn bias as its mean, where there is one."""
    for bias in operator.inputs[2:3]:
        drawn = run.weights[bias].copy()
        shift = drawn - _by_channel(outputs).mean(axis=1, dtype=np.float64).astype(np.float32)
        run.weights[bias] += shift
        for output in outputs:
            np.add(output, shift.reshape((1, -1) + (1,) * (output.ndim - 2)), out=output)


def _size(operator: Operator, outputs: Sequence[Array]) -> float:
    size = float(np.sqrt(np.mean([np.mean(output**2) for output in outputs])))
    if not size > 0 or not np.isfinite(size):
        raise ModelError(
            f"operator {operator.name!r} gives outputs of size {size}; a layer before it is dead, "
            "or its weights are"
        )
    return size


def _by_channel(values: Sequence[Array]) -> Array:
    """Gives [channels, everything else] of values [batch, channels, …]."""
    return np.concatenate(
        [np.moveaxis(value, 1, 0).reshape(value.shape[1], -1) for value in values], axis=1
    )
