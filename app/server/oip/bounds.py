"""How much JSON a model's requests and answers may hold, checked before any of it is made.

Parsing and writing JSON takes many times as long as handling the same tensor as
bytes, and holds the interpreter's lock meanwhile. So what can't be right is
refused by its size, and by counting its brackets and commas.
"""

from __future__ import annotations

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
)

_OTHER_VALUES: Final = 16 * 1024
"""What a request may hold beside its tensors' elements: 256 inputs and outputs with parameters."""


def json_bytes(card: ModelCard, packed_bytes: int | None = None) -> int:
    """Gives how large the JSON of a request may be, also when it was inflated from so many."""
    most_bytes = MAX_JSON_BYTES
    if (known := _elements_of_inputs(card)) is not None:
        most_bytes = min(most_bytes, FREE_JSON_BYTES + JSON_ITEM_BYTES * known)
    if packed_bytes is not None:
        most_bytes = min(most_bytes, max(FREE_JSON_BYTES, MAX_JSON_RATIO * packed_bytes))
    return most_bytes


def check_json(text: bytes, card: ModelCard) -> None:
    """Refuses JSON with more values than a model takes, or more arrays or strings than are served.

    Brackets and quotation marks in strings count as well. Commas count where a model's inputs have
    fixed sizes and hold no strings; else the sizes that a request claims could be anything.

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
    known = _elements_of_inputs(card)
    if known is not None and text.count(b",") > known + _OTHER_VALUES:
        raise PayloadTooLargeError(
            f"the JSON has more values than the {known} elements of the model's inputs"
        )


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


def _elements_of_inputs(card: ModelCard) -> int | None:
    """Gives how many elements all inputs have; None where sizes vary, or strings may be long."""
    count = 0
    for spec in card.inputs:
        if spec.shape is None or spec.dtype == "string":
            return None
        sizes = [size for size in spec.shape if isinstance(size, int)]
        if len(sizes) < len(spec.shape):
            return None
        count += prod(sizes)
    return count
