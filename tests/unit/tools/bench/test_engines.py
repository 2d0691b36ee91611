"""Other engines, and operators alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from app.engine import WholeModel
from app.tensors import Array
from tests import models
from tools.bench import peers
from tools.bench.operators import ORT, TRACT, above, measure_operators, write_isolated
from tools.bench.peers import Run, in_turn, open_tract
from tools.bench.results import Row
from tools.errors import BenchmarkError


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return models.save(models.residual(1), tmp_path / "residual.onnx")


def ratio(operator: str, *values: float) -> Row:
    return Row({"model": "m", "operator": operator}, "ratio", "", values)


def test_tract_computes_what_onnxruntime_does(source: Path) -> None:
    inputs = models.inputs_for(models.residual(1))
    expected = WholeModel(source, "none").run(inputs)
    actual = open_tract(source, inputs)(inputs)
    for array, other in zip(expected.values(), actual.values(), strict=True):
        np.testing.assert_allclose(array, other, rtol=1e-4, atol=1e-6)


def test_what_tract_cannot_do_has_no_number(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = models.inputs_for(models.residual(1))
    with pytest.raises(BenchmarkError, match=r"not available: .* one thread"):
        open_tract(source, inputs, threads=2)
    monkeypatch.setattr(peers, "tract", None)
    with pytest.raises(BenchmarkError, match=r"not available: .* isn't installed"):
        open_tract(source, inputs)


def test_engines_take_turns_and_the_first_round_is_not_counted() -> None:
    asked: list[str] = []

    def way(name: str) -> Run:
        def run(_inputs: Mapping[str, Array]) -> Mapping[str, Array]:
            asked.append(name)
            return {}

        return run

    rounds: list[object] = []
    found = in_turn({name: way(name) for name in ("a", "b", "c")}, {}, 4, rounds.append)
    assert rounds == [0, 1, 2, 3, 4]
    assert {name: len(times) for name, times in found.items()} == {"a": 4, "b": 4, "c": 4}
    for number in range(5):
        assert sorted(asked[3 * number : 3 * number + 3]) == ["a", "b", "c"]
    assert len({tuple(asked[3 * n : 3 * n + 3]) for n in range(5)}) > 1, "the order changes"


def test_every_operator_is_measured_alone(source: Path) -> None:
    found = measure_operators(lambda _: None, source, 2)
    assert len(found) > 3
    for node, measured in found:
        assert measured.seconds.keys() == {ORT, TRACT}, (node.name, measured.notes)
        assert all(len(times) == 2 for times in measured.seconds.values())
        assert measured.ratio is not None
        assert measured.ratio > 0


def test_an_operator_that_one_engine_lacks_keeps_its_other_numbers(tmp_path: Path) -> None:
    source = models.save(models.MODELS["strings"](), tmp_path / "strings.onnx")
    found = measure_operators(lambda _: None, source, 1)
    for _, measured in found:
        assert measured.ratio is None or measured.ratio > 0
        assert set(measured.notes) | set(measured.seconds) == {ORT, TRACT}
        assert all(note.startswith("not available") for note in measured.notes.values())


def test_list_holds_what_reaches_the_threshold(tmp_path: Path) -> None:
    rows = [ratio("low", 11.9), ratio("high", 30.0), ratio("edge", 12.0), ratio("unknown")]
    assert above(rows, 12.0) == [("high", 30.0), ("edge", 12.0)]
    path = tmp_path / "m.isolate"
    assert write_isolated(path, "m", rows, 12.0) == 2
    assert json.loads(path.read_text()) == {
        "format": 1,
        "model": "m",
        "threshold": 12.0,
        "operators": ["high", "edge"],
    }
