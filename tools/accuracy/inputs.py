"""Inputs to compare on: labelled pictures, seeded random tensors, structured tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from app.pictures import picture_tensor
from app.tensors import BFLOAT16, Array, TensorSpec
from tools.errors import ModelError
from tools.model_folder import ModelFolder

SEED = 20250101
RANDOM_INPUTS = 6
_BATCHES = (1, 3)
_WORDS = np.array(["0", "1", "2", "12"], dtype=object)
"""Numerals: an operator that reads numbers from strings accepts them too."""


@dataclass(frozen=True, slots=True)
class Case:
    """One request to compare on.

    Attributes:
        name: for people.
        inputs: arrays by input name.
        label: the true class, None where there is none.
    """

    name: str
    inputs: Mapping[str, Array]
    label: int | None = None


def cases(folder: ModelFolder) -> list[Case]:
    """Gives all cases of a model, the same ones at every call.

    Raises:
        ModelError: when an input can't be made up, of unknown rank or of a type that numpy hasn't.
    """
    specs, dimensions = folder.plan.inputs, dict(folder.plan.dimensions)
    rng = np.random.default_rng(SEED)
    found = list(_pictures(folder))
    for number in range(RANDOM_INPUTS):
        batch = _BATCHES[number % len(_BATCHES)]
        inputs = {spec.name: _random(spec, _shape(spec, batch, dimensions), rng) for spec in specs}
        found.append(Case(f"random {number} (batch {batch})", inputs))
    for name, value in (("zeros", 0.0), ("ones", 1.0), ("large", 100.0)):
        found.append(Case(name, {s.name: _constant(s, value, dimensions) for s in specs}))
    found.append(Case("ramp", {s.name: _ramp(s, dimensions) for s in specs}))
    return found


def _pictures(folder: ModelFolder) -> Iterator[Case]:
    how = folder.purpose.preprocessing
    if how is None:
        return
    name = folder.plan.inputs[0].name
    for path, label in folder.samples().items():
        yield Case(f"picture {path.name}", {name: picture_tensor(path.read_bytes(), how)}, label)


def _shape(spec: TensorSpec, batch: int, dimensions: Mapping[str, int]) -> tuple[int, ...]:
    """Symbolic dimensions take their planned size; the first, where symbolic, the batch."""
    if spec.shape is None or not _can_be_made(spec.dtype):
        raise ModelError(
            f"input {spec.name!r} is of {spec.dtype} with the shape {spec.shape}; "
            "the check can't make up such an input"
        )
    planned = [dimensions.get(dim, 1) if isinstance(dim, str) else dim for dim in spec.shape]
    if spec.shape and isinstance(spec.shape[0], str) and spec.shape[0] not in dimensions:
        planned[0] = batch
    return tuple(planned)


def _random(spec: TensorSpec, shape: Sequence[int], rng: np.random.Generator) -> Array:
    if _is_float(spec):
        return _of_type(spec, rng.standard_normal(shape))
    if spec.dtype == "string":
        return rng.choice(_WORDS, shape)
    return rng.integers(0, 2, size=shape).astype(spec.dtype)


def _constant(spec: TensorSpec, value: float, dimensions: Mapping[str, int]) -> Array:
    size = value if _is_float(spec) else min(value, 1.0)
    return _of_type(spec, np.full(_shape(spec, 1, dimensions), size))


def _ramp(spec: TensorSpec, dimensions: Mapping[str, int]) -> Array:
    shape = _shape(spec, 1, dimensions)
    count = int(np.prod(shape))
    if _is_float(spec):
        return _of_type(spec, np.linspace(-1, 1, count).reshape(shape))
    return _of_type(spec, (np.arange(count) % 2).reshape(shape))


def _of_type(spec: TensorSpec, array: Array) -> Array:
    if spec.dtype == "string":
        return _WORDS[array.astype(np.int64)]
    if spec.dtype == "bfloat16":  # the upper half of a float32's bits
        raw = array.astype(np.float32).view(np.uint32) >> 16
        return raw.astype(np.uint16).view(BFLOAT16)
    return array.astype(spec.dtype)


def _can_be_made(dtype: str) -> bool:
    """Numpy has neither numbers below 8 bits nor floats of 8."""
    return dtype in ("bfloat16", "string", *np.sctypeDict)


def _is_float(spec: TensorSpec) -> bool:
    return spec.dtype in ("float16", "bfloat16", "float32", "float64")
