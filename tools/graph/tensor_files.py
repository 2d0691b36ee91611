"""Reads tensors from files, as ONNX's test data has them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import numpy_helper

from app.tensors import Array
from tools.errors import ModelError


def read_tensor(path: Path) -> tuple[str, Array]:
    """Reads one TensorProto.

    Returns:
        Its name, "" when it has none, and its content.

    Raises:
        ModelError: when the file isn't a tensor with its content inside.
        OSError: when it can't be read.
    """
    tensor = onnx.TensorProto()
    try:
        tensor.ParseFromString(path.read_bytes())
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise ModelError(f"{path}: its content is in another file, which isn't read")
        array = _with_text(numpy_helper.to_array(tensor))
    except (DecodeError, TypeError, ValueError, KeyError) as error:
        raise ModelError(f"{path}: expected an ONNX tensor: {error}") from error
    return tensor.name, array


def _with_text(array: Array) -> Array:
    """Strings are text in a graph and bytes in a file."""
    if array.dtype.kind not in "OS":
        return array
    items = [item.decode() if isinstance(item, bytes) else item for item in array.reshape(-1)]
    text: Array = np.empty(len(items), dtype=object)
    text[:] = items
    return text.reshape(array.shape)
