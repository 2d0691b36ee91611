"""Figures of plans with the fewest partitions."""

from __future__ import annotations

from pathlib import Path

from tests import models
from tools.bench.planning import planning_rows


def test_rows_tell_partitions_and_both_bounds(tmp_path: Path) -> None:
    path = models.save(models.wide_chain(8, 320), tmp_path / "wide.onnx")
    fits, refused = planning_rows([("wide", path)], [4_000_000, 2], optimization="none")
    assert fits.weights_bytes == 8 * 320 * 320 * 4
    assert fits.simple_bound == 1
    assert fits.simple_bound <= fits.bound <= fits.partitions
    assert fits.partitions <= fits.bound + 1
    assert fits.required_bytes == 0
    assert (refused.partitions, refused.bound) == (0, 0)
    assert refused.required_bytes > refused.budget_bytes == path.stat().st_size // 2
