"""A path becomes data of the kind that lies there."""

from __future__ import annotations

from pathlib import Path

from tools.accuracy.data.arrays import ArrayFile
from tools.accuracy.data.example import DataSet
from tools.accuracy.data.pictures import PictureFolder
from tools.accuracy.data.tensors import TensorFiles, holds_test_data
from tools.errors import ModelError
from tools.model_folder import ModelFolder


def open_data(path: Path, folder: ModelFolder) -> DataSet:
    """Opens data for a model.

    Args:
        path: an .npz file, a folder with a folder of pictures per class, or a folder with
            ONNX's test_data_set_N folders.
        folder: the model, whose card says how pictures become tensors.

    Raises:
        ModelError: when it is none of them, or doesn't fit the model.
    """
    if path.suffix == ".npz" and path.is_file():
        return ArrayFile(path, folder)
    if not path.is_dir():
        raise ModelError(
            f"{path}: expected an .npz file, a folder with one folder of pictures per class, or "
            f"one with test_data_set_0 …; {'this is another file' if path.exists() else 'missing'}"
        )
    if holds_test_data(path):
        return TensorFiles(path, folder)
    return PictureFolder(path, folder)
