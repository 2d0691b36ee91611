"""ONNX test data: read by name or number, in the order of the folders' numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from app.tensors import Array
from tests import folders, models
from tests.graph import WIDTH
from tools.accuracy.data.opening import open_data
from tools.accuracy.data.tensors import TensorFiles
from tools.errors import ModelError
from tools.model_folder import ModelFolder


def row(value: float) -> Array:
    return np.full((1, WIDTH), value, dtype=np.float32)


def write(folder: Path, files: Mapping[str, tuple[str, Array]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for file, (name, array) in files.items():
        content = numpy_helper.from_array(array, name).SerializeToString()
        (folder / file).write_bytes(content)
    return folder


def test_folders_in_the_order_of_their_numbers(chain_folder: ModelFolder, tmp_path: Path) -> None:
    for number in (10, 2):
        write(
            tmp_path / f"test_data_set_{number}",
            {"input_0.pb": ("", row(number)), "output_0.pb": ("y", row(0))},
        )
    (tmp_path / "test_data_set_2" / "notes.txt").write_text("x")
    data = open_data(tmp_path, chain_folder)
    assert (data.count, data.labelled) == (2, False)
    assert [int(example.inputs["x"][0, 0]) for example in data] == [2, 10]
    assert data.remarks == ["test_data_set_2: notes.txt isn't test data"]


def test_one_folder_alone(chain_folder: ModelFolder, tmp_path: Path) -> None:
    write(tmp_path, {"input_0.pb": ("x", row(1)), "output_0.pb": ("y", row(2))})
    [example] = TensorFiles(tmp_path, chain_folder)
    assert example.expected is not None
    np.testing.assert_array_equal(example.expected["y"], row(2))


def test_the_name_inside_comes_before_the_number(tmp_path: Path) -> None:
    folder = folders.make_folder(models.many_inputs(), tmp_path / "m")
    files = {
        "input_0.pb": ("late", row(2)),
        "input_1.pb": ("early", row(1)),
        "input_2.pb": ("something", row(3)),
        "output_0.pb": ("", row(0)),
    }
    [example] = TensorFiles(write(tmp_path / "test_data_set_0", files), folder)
    assert {name: array[0, 0] for name, array in example.inputs.items()} == {
        "early": 1,
        "late": 2,
        "unused": 3,
    }


def external() -> bytes:
    tensor = numpy_helper.from_array(row(1), "x")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    return bytes(tensor.SerializeToString())


GOOD = numpy_helper.from_array(row(1), "").SerializeToString()
WRONG: dict[str, tuple[dict[str, bytes], str]] = {
    "no output": ({"input_0.pb": GOOD}, r"expected output_0\.pb"),
    "garbage": ({"input_0.pb": b"\xff" * 9, "output_0.pb": GOOD}, "expected an ONNX tensor"),
    "elsewhere": ({"input_0.pb": external(), "output_0.pb": GOOD}, "in another file"),
    "too many": (
        {"input_0.pb": GOOD, "input_1.pb": GOOD, "output_0.pb": GOOD},
        r"the model has only the inputs \['x'\]",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_files(chain_folder: ModelFolder, tmp_path: Path, kind: str) -> None:
    files, said = WRONG[kind]
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=said):
        list(TensorFiles(tmp_path, chain_folder))


def test_missing_input(tmp_path: Path) -> None:
    folder = folders.make_folder(models.many_inputs(), tmp_path / "m")
    data = write(tmp_path / "d", {"input_0.pb": ("", row(1)), "output_0.pb": ("", row(1))})
    with pytest.raises(ModelError, match=r"the inputs \['late', 'unused'\] are missing"):
        list(TensorFiles(data, folder))


@pytest.mark.parametrize(("name", "said"), [("nowhere", "missing"), ("x.txt", "another file")])
def test_a_path_that_is_no_data(
    chain_folder: ModelFolder, tmp_path: Path, name: str, said: str
) -> None:
    (tmp_path / "x.txt").write_text("x")
    with pytest.raises(ModelError, match=said):
        open_data(tmp_path / name, chain_folder)
