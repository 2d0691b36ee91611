"""Pictures in one folder per class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from app.errors import InputError
from app.pictures import picture_tensor
from tools.accuracy.data.example import Example
from tools.errors import ModelError
from tools.model_folder import ModelFolder

SUFFIXES: Final = (".png", ".jpg", ".jpeg")


class PictureFolder:
    """FOLDER/CLASS/*.png and *.jpg; a class is a label of the model card, or its number.

    Every picture goes through what the appliance does to a client's picture.

    Raises:
        ModelError: when the model takes no pictures, or there is none of a known class.
    """

    kind: Final = "pictures by class"
    labelled: Final = True

    def __init__(self, path: Path, folder: ModelFolder) -> None:
        how = folder.purpose.preprocessing
        if how is None:
            raise ModelError(
                f"{path}: pictures need a model whose model.json gives 'preprocessing'; "
                "give an .npz file with the input tensors instead"
            )
        self._how = how
        self._input = folder.plan.inputs[0].name
        self.remarks: list[str] = []
        self._pictures = self._find(path, folder.purpose.labels)

    @property
    def count(self) -> int:
        """See `DataSet`."""
        return len(self._pictures)

    def __iter__(self) -> Iterator[Example]:
        """Reads and preprocesses the pictures; broken ones are skipped with a remark."""
        for path, label in self._pictures:
            name = f"{path.parent.name}/{path.name}"
            try:
                tensor = picture_tensor(path.read_bytes(), self._how)
            except InputError as error:
                self.remarks.append(f"{name} is skipped: {error}")
                continue
            yield Example(name, {self._input: tensor}, np.array([label], dtype=np.int64))

    def _find(self, path: Path, labels: Sequence[str]) -> list[tuple[Path, int]]:
        classes = _classes(labels)
        found: list[tuple[Path, int]] = []
        strays: list[str] = []
        for folder in sorted(path.iterdir()):
            label = classes.get(folder.name) if folder.is_dir() else None
            if label is None:
                strays.append(folder.name)
                continue
            for file in sorted(folder.iterdir()):
                if file.is_file() and file.suffix.lower() in SUFFIXES:
                    found.append((file, label))
                else:
                    strays.append(f"{folder.name}/{file.name}")
        if strays:
            self.remarks.append(
                f"{len(strays)} entries are neither a class of this model nor a PNG or JPEG in "
                f"one, and are skipped: {', '.join(strays[:3])}{' …' if len(strays) > 3 else ''}"
            )
        if not found:
            raise ModelError(
                f"{path}: no picture of a known class in it; expected folders named like the "
                f"labels, as {labels[0]!r}, or by number, 0 to {len(labels) - 1}, with PNG or JPEG "
                "files in them"
            )
        return found


def _classes(labels: Sequence[str]) -> dict[str, int]:
    """Gives the class that a folder's name means; a label that two classes have means none."""
    counts = Counter(labels)
    by_number = {str(index): index for index in range(len(labels))}
    by_label = {label: index for index, label in enumerate(labels) if counts[label] == 1}
    return by_number | by_label
