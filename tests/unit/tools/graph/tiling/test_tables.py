"""Rows looked up in parts of a table are the rows of the table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from app.engine import WholeModel
from tests import models
from tests.graph import Graph
from tools.graph.extract import save_model
from tools.graph.load import load_model
from tools.graph.tiling.weights import Tiling, tile_weights

ROWS = 37


def lookup(columns: tuple[int, ...], dtype: str = "int64", axis: int = 0) -> onnx.ModelProto:
    graph = Graph()
    element = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    index = graph.input("i", ["batch", 4], element)
    graph.node("Gather", graph.weight(ROWS, *columns), index, out="y", axis=axis)
    rank = 2 + len(columns)
    graph.output("y", [f"d{axis}" for axis in range(rank)])
    return graph.model()


@pytest.mark.parametrize("columns", [(8,), (), (2, 3)])
@pytest.mark.parametrize("dtype", ["int64", "int32"])
@pytest.mark.parametrize("height", [1, 5, 36])
def test_rows_are_equal(tmp_path: Path, columns: tuple[int, ...], dtype: str, height: int) -> None:
    whole = models.save(lookup(columns, dtype), tmp_path / "whole.onnx")
    model = load_model(whole)
    row_bytes = 4 * int(np.prod(columns))
    tiled = tile_weights(model, height * row_bytes)
    assert tiled == [Tiling("Gather_y", "Gather", -(-ROWS // height))]
    save_model(model, tmp_path / "tiled.onnx")
    index = np.array([[0, 1, ROWS - 1, -1], [5, 4, -ROWS, 36], [9, 10, 11, 35]], dtype)
    expected = WholeModel(whole, "none").run({"i": index})["y"]
    found = WholeModel(tmp_path / "tiled.onnx", "none").run({"i": index})["y"]
    assert found.shape == expected.shape
    assert found.tobytes() == expected.tobytes()


def test_what_stays_as_it_is(tmp_path: Path) -> None:
    other_axis = load_model(models.save(lookup((8,), axis=1), tmp_path / "m.onnx"))
    assert [(each.tiles, each.reason) for each in tile_weights(other_axis, 64)] == [
        (1, "it doesn't look up rows")
    ]
    small = load_model(models.save(lookup((8,)), tmp_path / "s.onnx"))
    assert tile_weights(small, ROWS * 8 * 4) == []
