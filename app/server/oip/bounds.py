"""How much JSON a model's requests and answers may hold, checked before any of it is made.

Parsing and writing JSON takes many times as long as handling the same tensor as
bytes, and holds the interpreter's lock meanwhile. So what can't be right is
refused by its size, by counting its brackets and commas, and by its shapes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import islice
from math import prod
from typing import Final

from app.card import ModelCard
from app.errors import InputError, PayloadTooLargeError
from app.limits import (
    FREE_JSON_BYTES,
    JSON_ITEM_BYTES,
    MAX_JSON_BYTES,
    MAX_JSON_ELEMENTS,
    MAX_JSON_LISTS,
    MAX_JSON_RATIO,
    MAX_JSON_STRINGS,
    MAX_TENSOR_ELEMENTS,
)
from app.tensors import TensorSpec

_SHAPE: Final = re.compile(rb'"shape"[ \t\r\n]*:[ \t\r\n]*\[([0-9, \t\r\n]{0,640})\]')
"""A key, as no letter follows a quotation mark that ends a string; unless that mark is escaped. To
look behind would make the search ten times slower."""

_MAX_SHAPES: Final = 1024
_OTHER_VALUES: Final = 16 * 1024
"""What a request may hold beside its tensors' elements: 256 inputs and outputs with parameters."""


def json_bytes(card: ModelCard) -> int:
    """Gives how large a JSON request to a model may be."""
    sizes = [elements(spec, {}) for spec in card.inputs]
    known = [size for size in sizes if size is not None]
    if len(known) < len(sizes) or _has_strings(card):
        return MAX_JSON_BYTES
    return min(MAX_JSON_BYTES, FREE_JSON_BYTES + JSON_ITEM_BYTES * sum(known))


def inflated_json_bytes(packed_bytes: int) -> int:
    """Gives how much JSON a compressed body may inflate to."""
    return max(FREE_JSON_BYTES, MAX_JSON_RATIO * packed_bytes)


def check_json(text: bytes, card: ModelCard) -> None:
    """Refuses JSON with more values than its shapes say, or more arrays or strings than are served.

    Brackets and quotation marks in strings count as well. Commas don't where a model takes strings.

    Raises:
        PayloadTooLargeError: it has more.
    """
    if len(text) <= FREE_JSON_BYTES:
        return
    if text.count(b"[") + text.count(b"{") > MAX_JSON_LISTS:
        raise PayloadTooLargeError(
            f"the JSON has more than {MAX_JSON_LISTS} arrays and objects; send 'data' flat, or as "
            "binary data"
        )
    if text.count(b'"') > 2 * MAX_JSON_STRINGS:
        raise PayloadTooLargeError(
            f"the JSON has more than {MAX_JSON_STRINGS} strings; send them as binary data"
        )
    most = _claimed(text, card) + _OTHER_VALUES
    if text.count(b",") > most and not _has_strings(card):
        raise PayloadTooLargeError("the JSON has more values than its shapes and the model's say")


def check_elements(count: int) -> None:
    """Bounds the elements that one answer holds as JSON.

    Raises:
        InputError: there are too many.
    """
    if count > MAX_JSON_ELEMENTS:
        raise InputError(
            f"the answer has {count} elements, as JSON at most {MAX_JSON_ELEMENTS} are to be had; "
            "ask for binary data: 'binary_data_output', or 'binary_data' of an output"
        )


def elements(spec: TensorSpec, sizes: Mapping[str, int]) -> int | None:
    """Gives how many elements a tensor has; None where a size isn't known.

    Args:
        spec: the tensor.
        sizes: of symbolic dimensions, as far as they are known.
    """
    if spec.shape is None:
        return None
    shape = [sizes.get(size) if isinstance(size, str) else size for size in spec.shape]
    known = [size for size in shape if size is not None]
    return prod(known) if len(known) == len(shape) else None


def _has_strings(card: ModelCard) -> bool:
    return any(spec.dtype == "string" for spec in card.inputs)


def _claimed(text: bytes, card: ModelCard) -> int:
    """Gives how many elements the inputs have, by what their shapes and the model's say."""
    fixed = [elements(spec, {}) for spec in card.inputs]
    if None not in fixed:
        return sum(size for size in fixed if size is not None)
    shapes = (
        [int(size) for size in match[1].replace(b",", b" ").split()]
        for match in islice(_SHAPE.finditer(text), _MAX_SHAPES)
        if text[match.start() - 1 : match.start()] != b"\\"
    )
    sizes = sorted((min(prod(shape), MAX_TENSOR_ELEMENTS) for shape in shapes), reverse=True)
    return sum(sizes[: len(card.inputs)])
