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

ITEM_BYTES: Final[Mapping[str, int]] = {
    "bool": 1,
    "int8": 1,
    "uint8": 1,
    "int16": 2,
    "uint16": 2,
    "float16": 2,
    "bfloat16": 2,
    "int32": 4,
    "uint32": 4,
    "float32": 4,
    "int64": 8,
    "uint64": 8,
    "float64": 8,
    "complex64": 8,
    "complex128": 16,
    "string": 0,
}
"""Bytes of one element by dtype name; strings have no fixed size."""

MAX_RANK: Final = 32
"""Dimensions of a tensor: numpy's own former limit, far above any model's."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, element type and shape of a tensor.

    Attributes:
        name: the value's name in the ONNX graph.
        dtype: a key of `ITEM_BYTES`.
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
        actual = "string" if tensor.dtype.kind in "OUS" else tensor.dtype.name
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
        if self.shape is None or self.dtype not in ITEM_BYTES or self.dtype == "string":
            return None
        dims = (sizes.get(dim, 1) if isinstance(dim, str) else dim for dim in self.shape)
        return prod(dims) * ITEM_BYTES[self.dtype]

    def to_json(self) -> dict[str, object]:
        """Gives the form that `read_spec` reads."""
        shape = None if self.shape is None else list(self.shape)
        return {"name": self.name, "dtype": self.dtype, "shape": shape}


def read_spec(fields: Fields) -> TensorSpec:
    """Reads a TensorSpec from JSON.

    Raises:
        FieldError: for an unknown dtype or a shape that isn't sizes and names.
    """
    name = fields.text("name")
    dtype = fields.choice("dtype", tuple(ITEM_BYTES))
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
