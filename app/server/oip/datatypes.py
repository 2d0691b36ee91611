"""The protocol's element types, and arrays as the raw bytes that follow a request's JSON."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from math import prod
from typing import Final

import numpy as np

from app.errors import InputError, PayloadTooLargeError
from app.limits import MAX_STRING_ELEMENTS
from app.tensors import Array, dtype_name, numpy_dtype, packed_bytes

DATATYPES: Final[Mapping[str, str]] = {
    "bool": "BOOL",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
    "bfloat16": "BF16",
    "string": "BYTES",
}
"""The protocol's names of element types."""

_LENGTH: Final = struct.Struct("<I")
"""Stands before every element of a BYTES tensor."""

LENGTH_BYTES: Final = _LENGTH.size


def datatype_of(name: str, array: Array) -> str:
    """Gives the protocol's name of an output's element type.

    Raises:
        InputError: the protocol has none, so the output can't be asked for.
    """
    dtype = dtype_name(array)
    if dtype not in DATATYPES:
        raise InputError(f"output {name!r} is of {dtype}, which the protocol can't carry")
    return DATATYPES[dtype]


def from_binary(where: str, dtype: str, shape: tuple[int, ...], raw: memoryview) -> Array:
    """Makes an array of raw bytes.

    Args:
        where: the place in the request, for messages.
        dtype: a key of `DATATYPES`.
        shape: its product is bounded by the caller.
        raw: exactly the tensor's bytes.

    Returns:
        A view of `raw` where its address suits the element type, else a copy; not to be written.

    Raises:
        InputError: the size doesn't fit the shape, or the bytes aren't elements.
    """
    if dtype == "string":
        return _from_strings(where, shape, raw)
    expected = packed_bytes(dtype, prod(shape))
    if len(raw) != expected:
        raise InputError(
            f"{where}: expected {expected} bytes for {DATATYPES[dtype]} {list(shape)}, "
            f"got {len(raw)}"
        )
    array: Array = np.ndarray(shape, numpy_dtype(dtype), raw)
    if dtype == "bool" and (array.view(np.uint8) > 1).any():
        raise InputError(f"{where}: a BOOL is the byte 0 or 1")
    # A kernel reads whole elements; numpy itself holds bfloat16 for a record of bytes.
    is_aligned = array.ctypes.data % packed_bytes(dtype, 1) == 0
    return array if is_aligned else array.copy()


def to_binary(array: Array) -> memoryview:
    """Gives an array's elements in row-major order, little-endian.

    Returns:
        A view that keeps the array alive; of strings, and of arrays with gaps, a copy.
    """
    if dtype_name(array) == "string":
        items = array.reshape(-1).tolist()
        raws = [item if isinstance(item, bytes) else str(item).encode() for item in items]
        return memoryview(b"".join(_LENGTH.pack(len(raw)) + raw for raw in raws))
    flat = np.ascontiguousarray(array).reshape(-1)
    if flat.dtype.byteorder == ">":
        flat = flat.astype(flat.dtype.newbyteorder("<"))
    return flat.view(np.uint8).data


def check_string_count(where: str, count: int) -> None:
    """Bounds the elements of a string tensor before any is made.

    Raises:
        PayloadTooLargeError: there are too many.
    """
    if count > MAX_STRING_ELEMENTS:
        raise PayloadTooLargeError(
            f"{where}: {count} strings, at most {MAX_STRING_ELEMENTS} are allowed"
        )


def string_array(items: list[str], shape: tuple[int, ...]) -> Array:
    """Makes an array of strings."""
    array: Array = np.empty(len(items), object)
    array[:] = items
    return array.reshape(shape)


def _from_strings(where: str, shape: tuple[int, ...], raw: memoryview) -> Array:
    count = prod(shape)
    check_string_count(where, count)
    items: list[str] = []
    place = 0
    for _ in range(count):
        start = place + _LENGTH.size
        if start > len(raw):
            raise InputError(f"{where}: the bytes end before element {len(items)} of {count}")
        place = start + _LENGTH.unpack_from(raw, place)[0]
        if place > len(raw):
            raise InputError(f"{where}: element {len(items)} is longer than the bytes that came")
        try:
            items.append(str(raw[start:place], "utf-8"))
        except UnicodeDecodeError as error:
            raise InputError(f"{where}: the model's strings are UTF-8, an element isn't") from error
    if place != len(raw):
        raise InputError(f"{where}: {len(raw) - place} bytes follow the last of {count} elements")
    return string_array(items, shape)
