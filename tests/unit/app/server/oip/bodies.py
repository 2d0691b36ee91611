"""Requests in every form, and cards to read them with."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np

from app.card import ModelCard
from app.server.oip.datatypes import DATATYPES
from app.tensors import Array, TensorSpec, dtype_name
from tests.fakes import TENSOR_CARD, spec

X: dict[str, Any] = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4.5]}
COUNT: dict[str, Any] = {"name": "count", "datatype": "INT64", "shape": [1], "data": [2]}


def body(change: dict[str, Any] | None = None, **others: Any) -> bytes:
    """A right request with a change of the input x, and of fields beside it."""
    return json.dumps({"inputs": [X | (change or {}), COUNT], **others}).encode()


def binary(
    x: bytes = np.array([[1, 2, 3, 4.5]], "<f4").tobytes(),
    *,
    size: object = None,
    padding: int = 0,
    change: dict[str, Any] | None = None,
    **others: Any,
) -> tuple[bytes, int]:
    """A right request whose input x follows the JSON; gives it with the JSON's size."""
    tensor = {key: value for key, value in X.items() if key != "data"}
    tensor |= {"parameters": {"binary_data_size": len(x) if size is None else size}}
    head = json.dumps({"inputs": [tensor | (change or {}), COUNT], **others}).encode()
    head += b" " * padding
    return head + x, len(head)


def card_for(array: Array, *, shape: tuple[int | str, ...] | None = None) -> ModelCard:
    """A model that takes and gives tensors like this one, as "t"."""
    found = TensorSpec("t", dtype_name(array), array.shape if shape is None else shape)
    return ModelCard("", "tensors", (), "logits", None, (found,), (found,))


def card_of(dtype: str, *shape: int | str) -> ModelCard:
    """A model with the one input "x"."""
    return replace(TENSOR_CARD, inputs=(spec("x", *shape, dtype=dtype),))


DTYPES = sorted(DATATYPES)
