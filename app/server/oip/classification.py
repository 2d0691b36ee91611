"""Scores as the best classes: for Triton's classification extension and the classify route."""

from __future__ import annotations

import json
from functools import lru_cache

import numpy as np

from app.card import ModelCard
from app.errors import InputError
from app.server.oip.bounds import check_elements
from app.server.oip.datatypes import string_array
from app.tensors import Array, widened


def best_classes(card: ModelCard, name: str, array: Array, count: int) -> tuple[Array, int]:
    """Gives the classes with the highest scores, best first, as "score:index:label".

    Args:
        card: labels, for its first output; which outputs have a batch dimension.
        name: of the output.
        array: its scores, as the model gave them.
        count: how many at most.

    Returns:
        Strings of shape [classes], or [batch, classes] when the output's first dimension varies;
        and most bytes that the JSON of one of them could have, whatever the scores are.

    Raises:
        InputError: the output isn't scores, or there would be too many strings.
    """
    array = widened(array)
    if array.dtype.kind not in "fiu":
        raise InputError(f"output {name!r}: only numbers can be ranked for a classification")
    spec = next(output for output in card.outputs if output.name == name)
    batched = array.ndim > 1 and bool(spec.shape) and isinstance((spec.shape or ())[0], str)
    rows = array.reshape(array.shape[0], -1) if batched and array.size else array.reshape(1, -1)
    count = min(count, rows.shape[1])
    check_elements(rows.shape[0] * count)
    labels = card.labels if name == card.outputs[0].name else ()
    items = [
        f"{scores[index]:f}:{index}" + (f":{labels[index]}" if index < len(labels) else "")
        for scores in (row.astype(np.float64) for row in rows)
        for index in best(scores, count)
    ]
    lowest = np.finfo(array.dtype).min if array.dtype.kind == "f" else np.iinfo(np.int64).min
    widest = len(f"{float(lowest):f}:{rows.shape[1]}:") + len(json.dumps(longest_label(labels)))
    return string_array(items, (rows.shape[0], count) if batched else (count,)), widest


def best(scores: Array, count: int) -> list[int]:
    """Gives the places of the highest scores, best first; NaN comes last."""
    return [int(index) for index in np.argsort(-scores, kind="stable")[:count]]


@lru_cache(maxsize=64)
def longest_label(labels: tuple[str, ...]) -> str:
    """Gives the label whose JSON is the longest; "" without labels."""
    return max(labels, key=lambda label: len(json.dumps(label)), default="")
