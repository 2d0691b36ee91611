"""One array of an .npz file, read some rows at a time."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from math import prod
from typing import IO, Final

import numpy as np

from app.tensors import Array

BROKEN: Final = (zipfile.BadZipFile, zlib.error, ValueError, EOFError, KeyError, OSError)
"""What reading a spoilt file raises."""


@dataclass(frozen=True, slots=True)
class Column:
    """One array of an .npz file, at the place up to which it was read.

    Attributes:
        stream: decompresses the array's bytes.
        dtype: of one element.
        rows: size of the first dimension.
        row_shape: the other dimensions.
    """

    stream: IO[bytes]
    dtype: np.dtype[np.generic]
    rows: int
    row_shape: tuple[int, ...]

    @classmethod
    def open(cls, file: zipfile.ZipFile, member: str) -> Column:
        """Reads an array's header.

        Raises:
            ValueError: when it isn't a plain array in row order.
        """
        stream = file.open(member)
        version = np.lib.format.read_magic(stream)
        if version == (1, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
        else:
            shape, fortran, dtype = np.lib.format.read_array_header_2_0(stream)
        if dtype.hasobject:
            raise ValueError(f"{member} holds Python objects")
        if not shape:
            raise ValueError(f"{member} is a single number, expected one row per example")
        if fortran and len(shape) > 1:
            raise ValueError(f"{member} is in column order; save np.ascontiguousarray(…) of it")
        return cls(stream, dtype, shape[0], shape[1:])

    def read(self, rows: int) -> Array:
        """Reads the next rows.

        Raises:
            EOFError: when the array ends before.
        """
        size_bytes = rows * prod(self.row_shape) * self.dtype.itemsize
        raw = self.stream.read(size_bytes)
        if len(raw) != size_bytes:
            raise EOFError(f"expected {size_bytes} more bytes, got {len(raw)}")
        return np.frombuffer(raw, dtype=self.dtype).reshape(rows, *self.row_shape)
