"""Triton's classification extension: an output as its best classes, "score:index:label"."""

from __future__ import annotations

import numpy as np

from app.card import ModelCard
from app.errors import InputError
from app.limits import MAX_STRING_ELEMENTS
from app.server.oip.datatypes import string_array
from app.tensors import Array


def best_classes(card: ModelCard, name: str, array: Array, count: int) -> Array:
    """Gives the classes with the highest scores, best first.

    Args:
        card: labels, for its first output; which outputs have a batch dimension.
        name: of the output.
        array: its scores, as the model gave them.
        count: how many at most.

    Returns:
        Strings of shape [classes], or [batch, classes] when the output's first dimension varies.

    Raises:
        InputError: the output isn't scores, or there would be too many strings.
    """
    if array.dtype.kind not in "fiu":
        raise InputError(f"output {name!r}: only numbers can be ranked for a classification")
    spec = next(each for each in card.outputs if each.name == name)
    batched = array.ndim > 1 and bool(spec.shape) and isinstance((spec.shape or ())[0], str)
    rows = array.reshape(array.shape[0], -1) if batched and array.size else array.reshape(1, -1)
    count = min(count, rows.shape[1])
    if rows.shape[0] * count > MAX_STRING_ELEMENTS:
        raise InputError(f"output {name!r}: a classification of {rows.shape[0]} rows is too large")
    labels = card.labels if name == card.outputs[0].name else ()
    items = [text for row in rows for text in _row(row, labels, count)]
    return string_array(items, (rows.shape[0], count) if batched else (count,))


def _row(row: Array, labels: tuple[str, ...], count: int) -> list[str]:
    scores = row.astype(np.float64)
    best = np.argsort(-scores, kind="stable")[:count]
    return [
        f"{scores[index]:f}:{index}" + (f":{labels[index]}" if index < len(labels) else "")
        for index in best
    ]
