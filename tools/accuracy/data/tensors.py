"""ONNX's own test data: test_data_set_N/input_0.pb …, output_0.pb …, as model zoos ship them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from app.tensors import Array, TensorSpec
from tools.accuracy.data.example import Example
from tools.errors import ModelError
from tools.graph.tensor_files import read_tensor
from tools.model_folder import ModelFolder

_SET: Final = re.compile(r"test_data_set_(\d+)")
_FILE: Final = re.compile(r"(input|output)_(\d+)\.pb")


class TensorFiles:
    """One example per test_data_set_N: inputs, and the outputs that somebody else computed.

    Files belong to inputs and outputs by the name in them, or else by their number.

    Raises:
        ModelError: when a folder has no input or no output.
    """

    kind: Final = "ONNX test data"
    labelled: Final = False

    def __init__(self, path: Path, folder: ModelFolder) -> None:
        self._inputs, self._outputs = folder.plan.inputs, folder.plan.outputs
        self._sets = _find_sets(path)
        self.remarks: list[str] = []
        for each in self._sets:
            strays = [
                file.name for file in sorted(each.iterdir()) if not _FILE.fullmatch(file.name)
            ]
            if strays:
                self.remarks.append(f"{each.name}: {', '.join(strays[:3])} isn't test data")

    @property
    def count(self) -> int:
        """See `DataSet`."""
        return len(self._sets)

    def __iter__(self) -> Iterator[Example]:
        """Reads the folders in the order of their numbers.

        Raises:
            ModelError: when a file isn't a tensor, or fits no input or output.
        """
        for each in self._sets:
            inputs = _read(each, "input", self._inputs)
            if missing := sorted({spec.name for spec in self._inputs} - inputs.keys()):
                raise ModelError(f"{each}: the inputs {missing} are missing")
            yield Example(each.name, inputs, expected=_read(each, "output", self._outputs))


def holds_test_data(path: Path) -> bool:
    """Tells whether a folder is or has ONNX test data."""
    return path.is_dir() and bool(_find_sets(path))


def _find_sets(path: Path) -> list[Path]:
    if (path / "input_0.pb").exists():
        return [path]
    found = [each for each in path.iterdir() if each.is_dir() and _SET.fullmatch(each.name)]
    return sorted(found, key=lambda each: int(each.name.rpartition("_")[2]))


def _read(folder: Path, role: str, specs: Sequence[TensorSpec]) -> Mapping[str, Array]:
    names = [spec.name for spec in specs]
    numbers = sorted(
        int(match[2])
        for file in folder.iterdir()
        if (match := _FILE.fullmatch(file.name)) and match[1] == role
    )
    if not numbers:
        raise ModelError(f"{folder}: expected {role}_0.pb, there is no {role}")
    found: dict[str, Array] = {}
    for number in numbers:
        path = folder / f"{role}_{number}.pb"
        name, array = read_tensor(path)
        if name not in names:
            if number >= len(names):
                raise ModelError(f"{path}: the model has only the {role}s {names}")
            name = names[number]
        if name in found:
            raise ModelError(f"{path}: {role} {name!r} is given twice")
        found[name] = array
    return found
