"""How far two sets of outputs are apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from app.tensors import Array, widened


@dataclass(frozen=True, slots=True)
class Difference:
    """The distance of one output from its reference.

    Attributes:
        identical: same element type, shape and bits.
        absolute: largest |actual - reference|; infinite when they can't be compared.
        relative: that, divided by the largest |reference|.
        tensor: the output's name.
    """

    identical: bool
    absolute: float
    relative: float
    tensor: str


def compare(reference: Mapping[str, Array], actual: Mapping[str, Array]) -> Difference:
    """Compares all outputs and gives the one that is furthest off.

    Args:
        reference: arrays by name.
        actual: arrays by name; a missing one counts as infinitely far off.
    """
    differences = [
        _difference(name, array, actual[name])
        if name in actual
        else Difference(False, np.inf, np.inf, name)
        for name, array in reference.items()
    ]
    return max(differences, key=lambda each: (not each.identical, each.relative))


def _same_bits(reference: Array, actual: Array) -> bool:
    if reference.dtype.kind == "O":  # strings: the array holds only their addresses
        return bool(np.array_equal(reference, actual))
    return reference.tobytes() == actual.tobytes()


def _difference(name: str, reference: Array, actual: Array) -> Difference:
    same_form = reference.dtype == actual.dtype and reference.shape == actual.shape
    if same_form and _same_bits(reference, actual):
        return Difference(True, 0.0, 0.0, name)
    reference, actual = widened(reference), widened(actual)
    if not same_form or reference.dtype.kind not in "fiub":
        return Difference(False, np.inf, np.inf, name)
    expected, found = reference.astype(np.float64), actual.astype(np.float64)
    with np.errstate(invalid="ignore"):
        distance = np.abs(found - expected)
    # Equal infinities differ by NaN; NaN in only one of them is as far off as can be.
    alike = (expected == found) | (np.isnan(expected) & np.isnan(found))
    distance = np.where(alike, 0.0, np.nan_to_num(distance, nan=np.inf, posinf=np.inf))
    finite = np.abs(expected[np.isfinite(expected)])
    scale = float(finite.max(initial=0.0)) or 1.0
    absolute = float(distance.max(initial=0.0))
    return Difference(False, absolute, absolute / scale, name)
