"""Opens whole models with onnxruntime, which opens by itself what they refer to."""

from __future__ import annotations

from pathlib import Path

from google.protobuf.message import DecodeError

from app.engine import EngineError, WholeModel
from tools.graph.mapped import read_mapped


def open_whole(path: Path, optimization: str) -> WholeModel:
    """Opens a model after a look at every file that it names.

    Args:
        path: the ONNX file, with external data beside it if it has any.
        optimization: a key of `app.manifest.OPTIMIZATIONS`.

    Raises:
        ModelError: when it names a file that isn't a regular one below its own folder.
        EngineError: when it can't be read, or onnxruntime refuses it.
    """
    try:
        read_mapped(path)
    except (OSError, DecodeError, ValueError) as error:
        raise EngineError(f"it can't be read: {error}") from error
    return WholeModel(path, optimization)
