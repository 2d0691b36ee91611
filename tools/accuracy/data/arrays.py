"""Arrays in an .npz file, read row by row: it may be larger than memory."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.limits import MAX_PICTURE_PIXELS
from app.pictures import picture_tensor
from app.tensors import Array, TensorSpec
from tools.accuracy.data.columns import BROKEN, Column
from tools.accuracy.data.example import Example
from tools.accuracy.data.png import encode_png
from tools.errors import ModelError
from tools.model_folder import ModelFolder

LABELS: Final = "labels"
PICTURES: Final = "pictures"


class ArrayFile:
    """An .npz file with an array per input, or one array "pictures", and with "labels".

    An input's array has one row per example along its first dimension. Pictures are uint8,
    [N, H, W] or [N, H, W, 3], and go through what the appliance does to a client's PNG.

    Raises:
        ModelError: when an array is missing, or isn't what the model takes.
    """

    kind: Final = "arrays"

    def __init__(self, path: Path, folder: ModelFolder) -> None:
        self._path = path
        self._folder = folder
        self.remarks: list[str] = []
        try:
            with zipfile.ZipFile(path) as file:
                self._members = {
                    name.removesuffix(".npy"): name
                    for name in file.namelist()
                    if name.endswith(".npy")
                }
                self._read_inputs(file)
                self._read_labels(file)
        except BROKEN as error:
            raise ModelError(f"{path}: not an .npz file of plain arrays: {error}") from error

    def _read_inputs(self, file: zipfile.ZipFile) -> None:
        specs = self._folder.plan.inputs
        self._pictures = not all(spec.name in self._members for spec in specs)
        self._names = [PICTURES] if self._pictures else [spec.name for spec in specs]
        if self._pictures and PICTURES not in self._members:
            raise ModelError(
                f"{self._path}: expected the arrays {[spec.name for spec in specs]} or "
                f"{PICTURES!r}, and {LABELS!r}; it has {sorted(self._members)}"
            )
        columns = {name: Column.open(file, self._members[name]) for name in self._names}
        rows = {column.rows for column in columns.values()}
        if len(rows) != 1:
            raise ModelError(
                f"{self._path}: the arrays have {sorted(rows)} rows; expected one per example"
            )
        self._rows = rows.pop()
        self._batch = 1
        if self._pictures:
            self._check_pictures(columns[PICTURES])
        else:
            self._check_tensors(columns)
        if ignored := sorted(set(self._members) - {*self._names, LABELS}):
            self.remarks.append(f"the arrays {ignored} aren't inputs of the model and are ignored")

    def _check_pictures(self, column: Column) -> None:
        how, shape = self._folder.purpose.preprocessing, column.row_shape
        if how is None:
            raise ModelError(
                f"{self._path}: {PICTURES!r} needs a model whose model.json gives 'preprocessing'"
            )
        grey_or_rgb = len(shape) == 2 or (len(shape) == 3 and shape[2] == 3)
        if column.dtype != np.uint8 or not grey_or_rgb or prod(shape[:2]) == 0:
            raise ModelError(
                f"{self._path}: {PICTURES!r} must be uint8 of the shape [N, H, W] or [N, H, W, 3], "
                f"got {column.dtype} with rows of the shape {list(shape)}"
            )
        if prod(shape[:2]) > MAX_PICTURE_PIXELS:
            raise ModelError(
                f"{self._path}: {PICTURES!r} has {prod(shape[:2])} pixels in a picture, "
                f"at most {MAX_PICTURE_PIXELS} are allowed"
            )

    def _check_tensors(self, columns: dict[str, Column]) -> None:
        specs = self._folder.plan.inputs
        fixed = {spec.shape[0] for spec in specs if spec.shape and isinstance(spec.shape[0], int)}
        self._batch = max(fixed, default=1)
        if self._batch < 1 or self._rows % self._batch:
            raise ModelError(
                f"{self._path}: the model takes {self._batch} rows at a time, {self._rows} rows "
                "aren't a multiple of that"
            )
        for spec in specs:
            _check_column(self._path, spec, columns[spec.name], self._batch)

    def _read_labels(self, file: zipfile.ZipFile) -> None:
        self._labels: NDArray[np.int64] | None = None
        if LABELS not in self._members:
            self.remarks.append(f"no array {LABELS!r}: only agreement can be measured")
            return
        column = Column.open(file, self._members[LABELS])
        classes = len(self._folder.purpose.labels)
        if column.dtype.kind not in "iu" or column.row_shape or column.rows != self._rows:
            raise ModelError(
                f"{self._path}: {LABELS!r} must be {self._rows} whole numbers, got {column.dtype} "
                f"of the shape {[column.rows, *column.row_shape]}"
            )
        labels = column.read(column.rows).astype(np.int64)
        wrong = (labels < 0) | ((labels >= classes) if classes else False)
        if wrong.any():
            row = int(wrong.argmax())
            raise ModelError(
                f"{self._path}: {LABELS!r}[{row}] is {labels[row]}, "
                f"expected 0 to {classes - 1 if classes else '…'}"
            )
        self._labels = labels

    @property
    def count(self) -> int:
        """See `DataSet`."""
        return self._rows // self._batch

    @property
    def labelled(self) -> bool:
        """See `DataSet`."""
        return self._labels is not None

    def __iter__(self) -> Iterator[Example]:
        """Reads as many rows at a time as the model takes, one where it takes any number.

        Raises:
            ModelError: when the file ends early.
        """
        with zipfile.ZipFile(self._path) as file:
            columns = {name: Column.open(file, self._members[name]) for name in self._names}
            for start in range(0, self._rows, self._batch):
                try:
                    arrays = {name: column.read(self._batch) for name, column in columns.items()}
                except BROKEN as error:
                    raise ModelError(f"{self._path}: cut off at row {start}: {error}") from error
                labels = None if self._labels is None else self._labels[start : start + self._batch]
                yield Example(f"row {start}", self._inputs(arrays), labels)

    def _inputs(self, arrays: dict[str, Array]) -> dict[str, Array]:
        how = self._folder.purpose.preprocessing
        if not self._pictures or how is None:
            return arrays
        name = self._folder.plan.inputs[0].name
        return {name: picture_tensor(encode_png(arrays[PICTURES][0]), how)}


def _check_column(path: Path, spec: TensorSpec, column: Column, batch: int) -> None:
    expected = "strings" if spec.dtype == "string" else spec.dtype
    if column.dtype.name != spec.dtype:
        raise ModelError(
            f"{path}: {spec.name!r} is {column.dtype.name}, the model takes {expected}"
        )
    spec.check_shape((batch, *column.row_shape))
