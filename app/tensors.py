"""What a tensor must look like, and the check that it does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.errors import InputError
from app.fields import FieldError, Fields

Array = NDArray[Any]
Dimension = int | str
"""A fixed size, or the name of a symbolic dimension whose size a request decides."""

ITEM_BITS: Final[Mapping[str, int]] = {
    "bool": 8,
    "int8": 8,
    "uint8": 8,
    "int16": 16,
    "uint16": 16,
    "float16": 16,
    "bfloat16": 16,
    "int32": 32,
    "uint32": 32,
    "float32": 32,
    "int64": 64,
    "uint64": 64,
    "float64": 64,
    "complex64": 64,
    "complex128": 128,
    "float8e4m3fn": 8,
    "float8e4m3fnuz": 8,
    "float8e5m2": 8,
    "float8e5m2fnuz": 8,
    "float8e8m0": 8,
    "float4e2m1": 4,
    "int4": 4,
    "uint4": 4,
    "int2": 2,
    "uint2": 2,
    "string": 0,
}
"""Bits of one element by dtype name; those below 8 are packed. Strings have no fixed size."""

MAX_RANK: Final = 32
"""Dimensions of a tensor: numpy's own former limit, far above any model's."""

BFLOAT16: Final = np.dtype([("bfloat16", "<u2")])
"""How arrays hold bfloat16, which numpy doesn't know: bits with a name of their own, so that they
aren't taken for whole numbers. An array of a type that another package calls so does as well."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, element type and shape of a tensor.

    Attributes:
        name: the value's name in the ONNX graph.
        dtype: a key of `ITEM_BITS`.
        shape: sizes; a string names a symbolic dimension. None when the rank is unknown.
    """

    name: str
    dtype: str
    shape: tuple[Dimension, ...] | None

    def check(self, tensor: Array) -> None:
        """Checks that a tensor fits this description.

        Raises:
            InputError: with the expected and the actual element type or shape.
        """
        actual = dtype_name(tensor)
        if actual != self.dtype:
            raise InputError(f"input {self.name!r}: expected {self.dtype}, got {actual}")
        if self.shape is None:
            return
        self.check_shape(tensor.shape)

    def check_shape(self, shape: Sequence[int]) -> None:
        """Checks a shape alone, before anything of that size is allocated.

        Raises:
            InputError: with the expected and the actual shape.
        """
        if self.shape is None:
            return
        fits = len(shape) == len(self.shape) and all(
            isinstance(expected, str) or expected == size
            for expected, size in zip(self.shape, shape, strict=True)
        )
        if not fits:
            raise InputError(
                f"input {self.name!r}: expected shape {list(self.shape)}, "
                f"got {list(shape)[:MAX_RANK]}"
            )

    def bytes_with(self, sizes: Mapping[str, int]) -> int | None:
        """Gives the size in bytes, or None when it can't be known.

        Args:
            sizes: sizes of the symbolic dimensions; those not named count as 1.
        """
        if self.shape is None or self.dtype not in ITEM_BITS or self.dtype == "string":
            return None
        dims = (sizes.get(dim, 1) if isinstance(dim, str) else dim for dim in self.shape)
        return packed_bytes(self.dtype, prod(dims))

    def to_json(self) -> dict[str, object]:
        """Gives the form that `read_spec` reads."""
        shape = None if self.shape is None else list(self.shape)
        return {"name": self.name, "dtype": self.dtype, "shape": shape}


def packed_bytes(dtype: str, elements: int) -> int:
    """Gives the size of so many elements without gaps, in bytes; 0 for strings."""
    return -(-elements * ITEM_BITS[dtype] // 8)


def numpy_dtype(dtype: str) -> np.dtype[np.void] | np.dtype[np.generic]:
    """Gives numpy's type for the name of an element type, little-endian.

    Raises:
        TypeError: for numbers below 8 bits and floats of 8, which numpy doesn't have.
    """
    if dtype == "bfloat16":
        return BFLOAT16
    return np.dtype(object) if dtype == "string" else np.dtype(dtype).newbyteorder("<")


def dtype_name(tensor: Array) -> str:
    """Gives the name of an array's element type, as `TensorSpec.dtype` has it."""
    if tensor.dtype == BFLOAT16:
        return "bfloat16"
    return "string" if tensor.dtype.kind in "OUS" else tensor.dtype.name


def widened(tensor: Array) -> Array:
    """Gives bfloat16 as float32 of the same values, and every other array as it is."""
    if dtype_name(tensor) != "bfloat16":
        return tensor
    bits = np.ascontiguousarray(tensor).view(np.uint16).astype(np.uint32) << np.uint32(16)
    return bits.view(np.float32).reshape(tensor.shape)


def check_inputs(specs: Sequence[TensorSpec], inputs: Mapping[str, Array]) -> None:
    """Checks that a request has exactly a model's inputs, of their element types and shapes.

    Raises:
        InputError: with what was expected and what came.
    """
    names = {spec.name for spec in specs}
    if names != inputs.keys():
        raise InputError(f"expected the inputs {sorted(names)}, got {sorted(inputs)}")
    for spec in specs:
        spec.check(inputs[spec.name])
    _check_dimensions(specs, inputs)


def _check_dimensions(specs: Sequence[TensorSpec], inputs: Mapping[str, Array]) -> None:
    """A symbolic dimension has one size in all inputs of a request."""
    sizes: dict[str, int] = {}
    for spec in specs:
        for dimension, size in zip(spec.shape or (), inputs[spec.name].shape, strict=False):
            if isinstance(dimension, str) and sizes.setdefault(dimension, size) != size:
                raise InputError(
                    f"input {spec.name!r}: dimension {dimension!r} is {size} here and "
                    f"{sizes[dimension]} in another input"
                )


def read_spec(fields: Fields) -> TensorSpec:
    """Reads a TensorSpec from JSON.

    Raises:
        FieldError: for an unknown dtype or a shape that isn't sizes and names.
    """
    name = fields.text("name")
    dtype = fields.choice("dtype", tuple(ITEM_BITS))
    return TensorSpec(name, dtype, _read_shape(fields))


def _read_shape(fields: Fields) -> tuple[Dimension, ...] | None:
    value = fields.take("shape")
    if value is None:
        return None
    if not isinstance(value, list) or len(value) > MAX_RANK:
        raise fields.wrong("shape", f"null or an array of at most {MAX_RANK} sizes", value)
    dims: list[Dimension] = []
    for item in value:
        if isinstance(item, bool) or not isinstance(item, int | str):
            raise fields.wrong("shape", "sizes and names", item)
        if isinstance(item, int) and not 0 <= item < 1 << 40:
            raise FieldError(f"{fields.where}.shape: the size {item} is out of bounds")
        dims.append(item)
    return tuple(dims)


def aligned_buffer(size_bytes: int, alignment: int = 64) -> NDArray[np.uint8]:
    """Allocates an uninitialised byte buffer whose address is a multiple of `alignment`."""
    raw = np.empty(size_bytes + alignment, dtype=np.uint8)
    start = -raw.ctypes.data % alignment
    return raw[start : start + size_bytes]
