"""Seeded inputs that differ from one another as real ones do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from app.tensors import Array, TensorSpec
from tools.errors import ModelError
from tools.zoo.weights import generator

SIZES: Final[Mapping[str, int]] = {"batch": 1, "sequence": 16}
"""What symbolic dimensions are taken for unless told otherwise."""

KINDS: Final = ("picture", "noise", "flat")
"""Pictures have structure at all scales; noise is standard normal and a flat picture has one
colour, as tests like to use them. A network calibrated for pictures alone blows up on others."""

_GRIDS: Final = (1, 2, 4, 8, 16, 32)
"""Patches to a side."""


def example_inputs(
    specs: Sequence[TensorSpec],
    ranges: Mapping[str, tuple[int, int]],
    kind: str,
    seed: str,
    sizes: Mapping[str, int] = SIZES,
) -> dict[str, Array]:
    """Makes one set of inputs.

    Args:
        specs: the network's inputs.
        ranges: for each integer input its least value and the first value too large.
        kind: one of `KINDS`, for inputs of float32.
        seed: another one gives other inputs.
        sizes: of the symbolic dimensions.

    Raises:
        ModelError: when an integer input has no range.
    """
    found = {}
    for spec in specs:
        rng = generator("input", kind, seed, spec.name)
        shape = [sizes[dim] if isinstance(dim, str) else dim for dim in spec.shape or ()]
        if spec.dtype != "float32":
            found[spec.name] = _integers(rng, spec, shape, ranges)
        elif kind == "noise":
            found[spec.name] = rng.standard_normal(shape, dtype=np.float32)
        elif kind == "flat":
            colour = rng.standard_normal((*shape[:-2], 1, 1), dtype=np.float32)
            found[spec.name] = np.broadcast_to(colour, shape).copy()
        else:
            found[spec.name] = _picture(rng, shape)
    return found


def _integers(
    rng: np.random.Generator,
    spec: TensorSpec,
    shape: Sequence[int],
    ranges: Mapping[str, tuple[int, int]],
) -> Array:
    if spec.name not in ranges:
        raise ModelError(f"input {spec.name!r} of {spec.dtype} needs a range of values")
    numbers: Array = rng.integers(*ranges[spec.name], size=shape).astype(spec.dtype)
    return numbers


def _picture(rng: np.random.Generator, shape: Sequence[int]) -> Array:
    """Gives [..., height, width] of mean 0 and deviation 1: patches of all sizes over noise."""
    *leading, height, width = shape
    picture = rng.uniform(0.1, 1) * rng.standard_normal(shape)
    for grid in _GRIDS:
        rows, columns = np.arange(height) * grid // height, np.arange(width) * grid // width
        patches = rng.standard_normal((*leading, grid, grid))
        picture += rng.uniform(0.2, 1) * patches[..., rows[:, None], columns]
    normal: Array = ((picture - picture.mean()) / picture.std()).astype(np.float32)
    return normal
