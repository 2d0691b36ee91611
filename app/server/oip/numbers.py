"""Arrays as JSON: what stands in a tensor's `data`.

What is large is converted in pieces: NumPy and the JSON writer hold the interpreter's lock until a
call's end, and other threads run between two of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import chain
from math import prod
from typing import Final

import numpy as np

from app.errors import InputError
from app.fields import FieldError, Fields
from app.limits import MAX_TENSOR_ELEMENTS
from app.server.oip.datatypes import check_string_count, string_array
from app.tensors import BFLOAT16, Array, dtype_name, numpy_dtype, widened

_FLOATS: Final = ("bfloat16", "float16", "float32", "float64")

_ALLOWED: Final[Mapping[str, frozenset[type]]] = {
    "bool": frozenset({bool}),
    "string": frozenset({str}),
    **dict.fromkeys(_FLOATS, frozenset({int, float})),
}
"""Python types of JSON items by element type; whole numbers for those not named."""

WIDEST: Final[Mapping[str, int]] = {
    "bool": len("false"),
    **{
        f"{sign}int{bits}": len(str(least))
        for bits in (8, 16, 32, 64)
        for sign, least in (("", -(1 << bits - 1)), ("u", (1 << bits) - 1))
    },
    **dict.fromkeys(_FLOATS, len("-1.7976931348623157e+308")),
}
"""Characters of the longest JSON item by element type; strings have no bound."""

_PIECE: Final = 4096
"""Items that are converted at a time: a millisecond or two."""


def read_data(fields: Fields, dtype: str, shape: tuple[int, ...]) -> Array:
    """Takes a tensor's `data`, flat or nested as the shape says.

    Args:
        fields: the tensor.
        dtype: a key of `DATATYPES`.
        shape: its product is bounded by the caller.

    Raises:
        FieldError: another number of items, other types, or numbers beyond the element type.
    """
    flat = _flatten(fields, fields.array("data", most=MAX_TENSOR_ELEMENTS), shape)
    if dtype == "string":
        check_string_count(f"{fields.where}.data", len(flat))
        _check_types(fields, dtype, flat)
        items = [str(item) for item in flat]
        try:
            for item in items:
                item.encode()
        except UnicodeEncodeError as error:
            raise FieldError(f"{fields.where}.data: a string holds half a character") from error
        return string_array(items, shape)
    array: Array = np.empty(len(flat), numpy_dtype(dtype))
    for start in range(0, len(flat), _PIECE):
        piece = flat[start : start + _PIECE]
        _check_types(fields, dtype, piece)
        array[start : start + _PIECE] = _converted(fields, dtype, piece)
    return array.reshape(shape)


def _converted(fields: Fields, dtype: str, items: Sequence[object]) -> Array:
    with np.errstate(over="ignore"):
        try:
            array = _bfloat16(items) if dtype == "bfloat16" else np.array(items, numpy_dtype(dtype))
        except (OverflowError, ValueError) as error:
            raise FieldError(f"{fields.where}.data: a number is beyond {dtype}") from error
    if not np.isfinite(widened(array)).all():
        raise FieldError(f"{fields.where}.data: a number is beyond {dtype}")
    return array


def json_text(name: str, array: Array) -> bytes:
    """Gives the text of `to_json`, without the brackets around it."""
    flat = array.reshape(-1)
    pieces = [
        json.dumps(to_json(name, flat[start : start + _PIECE]), separators=(",", ":"))[1:-1]
        for start in range(0, len(flat), _PIECE)
    ]
    return ",".join(pieces).encode()


def to_json(name: str, array: Array) -> list[object]:
    """Gives an output's items in row-major order.

    JSON has no NaN or infinity: they become null, as many JSON writers do.

    Raises:
        InputError: bytes that aren't UTF-8 have no JSON form.
    """
    flat = array.reshape(-1)
    if dtype_name(flat) == "string":
        try:
            return [str(item, "utf-8") if isinstance(item, bytes) else str(item) for item in flat]
        except UnicodeDecodeError as error:
            raise InputError(
                f"output {name!r} holds bytes that aren't UTF-8; ask for it with binary_data"
            ) from error
    flat = widened(flat)
    items: list[object] = flat.tolist()
    is_finite = np.isfinite(flat)
    if is_finite.all():
        return items
    return [item if finite else None for item, finite in zip(items, is_finite, strict=True)]


def _flatten(fields: Fields, data: Sequence[object], shape: tuple[int, ...]) -> Sequence[object]:
    level = data
    if level and isinstance(level[0], list):
        for axis, size in enumerate(shape[1:], 1):
            lists = [item for item in level if isinstance(item, list) and len(item) == size]
            if len(lists) != len(level):
                raise FieldError(
                    f"{fields.where}.data: nested otherwise than the shape {list(shape)} says: "
                    f"expected arrays of {size} at dimension {axis}"
                )
            level = list(chain.from_iterable(lists))
    if len(level) != prod(shape):
        raise FieldError(
            f"{fields.where}.data: expected {prod(shape)} items for the shape {list(shape)}, "
            f"got {len(level)}"
        )
    return level


def _check_types(fields: Fields, dtype: str, flat: Sequence[object]) -> None:
    wrong = set(map(type, flat)) - _ALLOWED.get(dtype, {int})
    if wrong:
        example = next(item for item in flat if type(item) in wrong)
        raise fields.wrong("data", f"only {dtype} values", example)


def _bfloat16(numbers: Sequence[object]) -> Array:
    """Rounds to the nearest bfloat16, ties to even: the upper half of a float32."""
    bits = np.array(numbers, np.float32).view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    infinite = ~np.isfinite(bits.view(np.float32))
    upper = np.where(infinite, bits, rounded) >> np.uint32(16)
    return upper.astype(np.uint16).view(BFLOAT16)
