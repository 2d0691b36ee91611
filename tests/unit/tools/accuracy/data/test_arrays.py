"""Arrays: read row by row, refused with what was expected and what came."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from app.errors import InputError
from app.pictures import picture_tensor
from tests import folders
from tests.graph import WIDTH, Graph
from tools.accuracy.data.arrays import ArrayFile
from tools.accuracy.data.png import encode_png
from tools.errors import ModelError
from tools.model_folder import ModelFolder

ROWS = 5


def save(path: Path, *, compressed: bool = True, **arrays: Any) -> Path:
    (np.savez_compressed if compressed else np.savez)(path, **arrays)
    return path


def tensors(rows: int = ROWS) -> Any:
    return np.random.default_rng(3).standard_normal((rows, WIDTH)).astype(np.float32)


@pytest.mark.parametrize("compressed", [True, False])
def test_one_row_at_a_time(chain_folder: ModelFolder, tmp_path: Path, compressed: bool) -> None:
    x, labels = tensors(), np.arange(ROWS, dtype=np.uint8)
    data = ArrayFile(
        save(tmp_path / "d.npz", compressed=compressed, x=x, labels=labels), chain_folder
    )
    assert (data.count, data.labelled) == (ROWS, True)
    for _ in range(2):  # as often as asked for
        examples = list(data)
        np.testing.assert_array_equal(np.concatenate([e.inputs["x"] for e in examples]), x)
        assert [example.labels for example in examples] == [[row] for row in range(ROWS)]
        assert {e.inputs["x"].shape for e in examples} == {(1, WIDTH)}


def test_a_model_of_fixed_batch_gets_whole_batches(tmp_path: Path) -> None:
    graph = Graph()
    graph.layer(graph.input("x", [2, WIDTH]), out="y")
    graph.output("y", [2, WIDTH])
    folder = folders.make_folder(graph.model(), tmp_path / "m")
    data = ArrayFile(save(tmp_path / "d.npz", x=tensors(6)), folder)
    assert data.count == 3
    assert {example.inputs["x"].shape for example in data} == {(2, WIDTH)}
    with pytest.raises(ModelError, match="2 rows at a time, 5 rows aren't a multiple"):
        ArrayFile(save(tmp_path / "odd.npz", x=tensors(5)), folder)


def test_without_labels_that_is_said(chain_folder: ModelFolder, tmp_path: Path) -> None:
    data = ArrayFile(save(tmp_path / "d.npz", x=tensors(), other=tensors()), chain_folder)
    assert not data.labelled
    assert next(iter(data)).labels is None
    assert len(data.remarks) == 2
    assert "['other']" in data.remarks[0]


@pytest.mark.parametrize("shape", [(3, 9, 7), (3, 9, 7, 3)])
def test_pictures_go_the_way_of_a_png(
    classifier_folder: ModelFolder, tmp_path: Path, shape: tuple[int, ...]
) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    path = save(tmp_path / "d.npz", pictures=pixels, labels=np.array([0, 1, 2]))
    how = classifier_folder.purpose.preprocessing
    assert how is not None
    for picture, example in zip(pixels, ArrayFile(path, classifier_folder), strict=True):
        raw = io.BytesIO()
        Image.fromarray(picture).save(raw, "PNG")
        expected = picture_tensor(raw.getvalue(), how)
        np.testing.assert_array_equal(example.inputs["image"], expected)


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (4, 6, 3)])
def test_png_loses_nothing(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, shape, dtype=np.uint8)
    with Image.open(io.BytesIO(encode_png(pixels))) as picture:
        np.testing.assert_array_equal(np.asarray(picture), pixels)


def test_a_file_that_is_cut_off(chain_folder: ModelFolder, tmp_path: Path) -> None:
    path = save(tmp_path / "d.npz", x=tensors())
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ModelError, match=r"d\.npz: not an \.npz file"):
        ArrayFile(path, chain_folder)


def test_a_header_that_promises_too_much(chain_folder: ModelFolder, tmp_path: Path) -> None:
    path, header = tmp_path / "d.npz", io.BytesIO()
    content = {"descr": "<f4", "fortran_order": False, "shape": (99, WIDTH)}
    np.lib.format.write_array_header_1_0(header, content)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("x.npy", header.getvalue() + tensors(9).tobytes())
    with pytest.raises(ModelError, match="cut off at row 9"):
        list(ArrayFile(path, chain_folder))


X = tensors()
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no input": ({"y": X}, r"expected the arrays \['x'\] or 'pictures'"),
    "type": ({"x": X.astype(np.float64)}, "'x' is float64, the model takes float32"),
    "shape": ({"x": X[:, :5]}, r"expected shape \['batch', 32\], got \[1, 5\]"),
    "objects": ({"x": np.array([{}, {}], dtype=object)}, "Python objects"),
    "one number": ({"x": np.float32(1)}, "single number"),
    "column order": ({"x": np.asfortranarray(X)}, "column order"),
    "few labels": ({"x": X, "labels": np.arange(4)}, "must be 5 whole numbers"),
    "float labels": ({"x": X, "labels": np.ones(5)}, "must be 5 whole numbers, got float64"),
    "negative labels": ({"x": X, "labels": np.array([0, 0, -1, 0, 0])}, r"\[2\] is -1"),
    "pictures": ({"pictures": np.ones((5, 3, 3), np.uint8)}, "gives 'preprocessing'"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_arrays(chain_folder: ModelFolder, tmp_path: Path, kind: str) -> None:
    arrays, said = WRONG[kind]
    with pytest.raises((ModelError, InputError), match=said):
        ArrayFile(save(tmp_path / "d.npz", **arrays), chain_folder)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"pictures": np.ones((2, 8, 8), np.float32)}, "must be uint8"),
        ({"pictures": np.ones((2, 8, 8, 4), np.uint8)}, r"rows of the shape \[8, 8, 4\]"),
        ({"pictures": np.ones((2, 0, 8), np.uint8)}, "must be uint8"),
        ({"pictures": np.ones((2, 8, 8), np.uint8), "labels": np.array([0, 3])}, "expected 0 to 2"),
    ],
)
def test_wrong_pictures(
    classifier_folder: ModelFolder, tmp_path: Path, arrays: dict[str, Any], said: str
) -> None:
    with pytest.raises(ModelError, match=said):
        ArrayFile(save(tmp_path / "d.npz", **arrays), classifier_folder)
