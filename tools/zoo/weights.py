"""Seeded weights that keep every signal alive.

Each weight has a generator of its own, seeded by model and weight name, so its numbers don't
depend on what else the model has. `initial_weights` draws them; `tools.zoo.calibration` then
scales them by what it measures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from math import prod
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tools.errors import ModelError
from tools.graph.build import Network, Operator

Weights = dict[str, NDArray[np.float32]]

_VIEWS: Final = frozenset({"Reshape", "Unsqueeze", "Transpose"})
_EMBEDDING_STD: Final = 0.1
"""Near that of trained GPT-2 (0.14); used as the last layer it gives scores of a spread near 3."""
_BIAS_STD: Final = 0.05
_SCALE_STD: Final = 0.1
"""Spread around 1 of scales, so that no two channels are alike."""
_GATE_GAIN: Final = 3.0
"""Embeddings are small numbers; with this a gate's sum varies by about 0.3."""

Std = Callable[[tuple[int, ...], Operator], float]
"""Gives a weight's standard deviation from its shape and the operator that reads it."""


def generator(*names: str) -> np.random.Generator:
    """Gives the generator that belongs to some names, the same one at every call."""
    digest = hashlib.sha256("\0".join(names).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


def initial_weights(network: Network) -> Weights:
    """Draws every weight by what it is for.

    Raises:
        ModelError: when nothing reads a weight, or an operator that has no weights.
    """
    return {name: _draw(network, name, shape) for name, shape in network.weights.items()}


def _draw(network: Network, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    operator, index = reader(network, name)
    role = (operator.op_type, index)
    if role not in _STDS:
        raise ModelError(
            f"{network.name}: weight {name!r} is input {index} of a {operator.op_type}, "
            "for which no distribution is known"
        )
    values = generator(network.name, name).standard_normal(shape, dtype=np.float32)
    values *= np.float32(_STDS[role](shape, operator))
    if role in _AROUND_ONE:
        values += 1
    return values


def reader(network: Network, name: str) -> tuple[Operator, int]:
    """Finds the operator that computes with a weight, past those that only turn it round.

    Returns:
        The operator, and which of its inputs the weight is.

    Raises:
        ModelError: when there is none.
    """
    for operator in network.operators:
        if name not in operator.inputs:
            continue
        if operator.op_type in _VIEWS:
            return reader(network, operator.outputs[0])
        return operator, operator.inputs.index(name)
    raise ModelError(f"{network.name}: no operator reads weight {name!r}")


def viewed(network: Network) -> Mapping[str, str]:
    """Gives, for each value that is a weight turned round, the weight."""
    found: dict[str, str] = {}
    for operator in network.operators:
        if operator.op_type in _VIEWS:
            source = found.get(operator.inputs[0], operator.inputs[0])
            if source in network.weights:
                found[operator.outputs[0]] = source
    return found


_STDS: Final[Mapping[tuple[str, int], Std]] = {
    # He et al., 2015, arXiv 1502.01852: what a rectifier halves is doubled.
    ("Conv", 1): lambda shape, _: (2 / prod(shape[1:])) ** 0.5,
    # Its windows don't overlap in this zoo, so one input position makes one output position.
    ("ConvTranspose", 1): lambda shape, _: (2 / shape[0]) ** 0.5,
    ("Gemm", 1): lambda shape, gemm: shape[1 if gemm.attributes.get("transB") else 0] ** -0.5,
    ("MatMul", 1): lambda shape, _: shape[-2] ** -0.5,
    ("LSTM", 1): lambda shape, _: _GATE_GAIN * shape[-1] ** -0.5,
    ("LSTM", 2): lambda shape, _: shape[-1] ** -0.5,
    ("Gather", 0): lambda *_: _EMBEDDING_STD,
    ("Mul", 1): lambda *_: _SCALE_STD,
    ("BatchNormalization", 1): lambda *_: _SCALE_STD,
    ("LayerNormalization", 1): lambda *_: _SCALE_STD,
    ("Conv", 2): lambda *_: _BIAS_STD,
    ("ConvTranspose", 2): lambda *_: _BIAS_STD,
    ("Gemm", 2): lambda *_: _BIAS_STD,
    ("Add", 1): lambda *_: _BIAS_STD,
    ("BatchNormalization", 2): lambda *_: _BIAS_STD,
    ("LayerNormalization", 2): lambda *_: _BIAS_STD,
    ("LSTM", 3): lambda *_: _BIAS_STD,
    # Running statistics; calibration measures them.
    ("BatchNormalization", 3): lambda *_: 0.0,
    ("BatchNormalization", 4): lambda *_: 0.0,
}
_AROUND_ONE: Final = frozenset(
    {
        ("Mul", 1),
        ("BatchNormalization", 1),
        # Most values then pass the activation as they are. Around 0, each layer would make
        # differences a fifth larger, rounding errors too: 48 layers, 10,000 times.
        ("BatchNormalization", 2),
        ("BatchNormalization", 4),
        ("LayerNormalization", 1),
    }
)
