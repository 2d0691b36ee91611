"""Multiplications and additions, counted by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import models
from tests.unit.tools.graph.tiling.test_weights import conv, gemm, matmul
from tools.graph.load import load_model
from tools.graph.summary import summarize


@pytest.mark.parametrize(
    ("model", "batch", "expected"),
    [
        (gemm(10, 30), 4, 2 * 4 * 10 * 30),
        (gemm(10, 30, transB=1), 4, 2 * 4 * 10 * 30),
        (gemm(10, 30, 30), 1, 2 * 10 * 30),
        (matmul(6, 20, 5), 3, 2 * 3 * 5 * 6 * 20),
        (conv(4, 12, 9), 2, 2 * 2 * 12 * 7 * 7 * 4 * 3 * 3),
        (conv(4, 12, 9, bias=True, pads=[1] * 4), 1, 2 * 12 * 9 * 9 * 4 * 9),
        (conv(8, 8, 9, groups=8), 1, 2 * 8 * 7 * 7 * 9),
        (models.many_inputs(), 2, 2 * 2 * 32 * 32),
    ],
)
def test_matrix_products_and_convolutions(
    model: object, batch: int, expected: int, tmp_path: Path
) -> None:
    loaded = load_model(models.save(model, tmp_path / "m.onnx"))  # type: ignore[arg-type]
    summary = summarize(loaded, {"batch": batch})
    heavy = [node for node in summary.nodes if node.weights]
    assert heavy[0].operations == expected


def test_operators_without_weights_count_their_elements(tmp_path: Path) -> None:
    loaded = load_model(models.save(models.diamond(), tmp_path / "m.onnx"))
    summary = summarize(loaded, {"batch": 7})
    light = [node for node in summary.nodes if not node.weights]
    assert light
    assert {node.operations for node in light} == {7 * 32}
