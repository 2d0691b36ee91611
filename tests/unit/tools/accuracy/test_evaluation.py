"""Evaluation counts every example once, and decides by what was asked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from app.engine import WholeModel
from tests import folders
from tools.accuracy.data.arrays import ArrayFile
from tools.accuracy.data.example import Example
from tools.accuracy.evaluation import TOGETHER, Criteria, Evaluation, distance, evaluate
from tools.accuracy.given import Tolerance
from tools.errors import AccuracyError
from tools.model_folder import ModelFolder

INF, NAN = np.inf, np.nan
ROWS = 2 * TOGETHER + 3


def inputs(rows: int = ROWS) -> Any:
    return np.random.default_rng(7).standard_normal((rows, 1, 8, 8)).astype(np.float32)


@pytest.fixture
def data(classifier_folder: ModelFolder, tmp_path: Path) -> Path:
    """Labelled as the whole model classifies, so that it is always right."""
    images = inputs()
    scores = WholeModel(classifier_folder.model_path, "none").run({"image": images})["scores"]
    path = tmp_path / "data.npz"
    np.savez(path, image=images, labels=scores.argmax(axis=1))
    return path


def other_model(folder: ModelFolder, path: Path, amount: float) -> Path:
    """A reference whose last layer prefers class 0 by some amount, with other output names."""
    model = onnx.load(folder.model_path)
    bias = np.array([amount, 0, 0], dtype=np.float32)
    model.graph.initializer.append(numpy_helper.from_array(bias, "bias"))
    output = model.graph.output[0].name
    model.graph.node.append(onnx.helper.make_node("Add", [output, "bias"], ["other"]))
    model.graph.output[0].name = "other"
    onnx.save(model, path)
    return path


def run(
    folder: ModelFolder, path: Path, *, reference: Path | None = None, max_drop: float | None = None
) -> Evaluation:
    steps: list[int] = []
    found = evaluate(
        folder,
        path,
        ArrayFile(path, folder),
        reference or folder.model_path,
        criteria=Criteria(max_drop),
        step=steps.append,
    )
    assert steps[-1] == found.examples
    assert max(b - a for a, b in zip([0, *steps], steps, strict=False)) <= TOGETHER
    return found


def test_partitions_are_as_right_as_the_whole(classifier_folder: ModelFolder, data: Path) -> None:
    found = run(classifier_folder, data, max_drop=0.0)
    assert found.passed
    assert found.complete
    assert found.examples == found.distances.identical == ROWS
    classes = found.classification
    assert classes is not None
    assert classes.reference_top1 is not None
    assert classes.partitions_top1 is not None
    assert classes.reference_top1.value == classes.partitions_top1.value == 1
    assert classes.reference_top5 is None
    assert sum(row.support for row in classes.rows) == ROWS


def test_the_observed_drop_decides(
    classifier_folder: ModelFolder, data: Path, tmp_path: Path
) -> None:
    """Labels are the partitions' answers, so a biased reference is worse: the drop is negative."""
    biased = other_model(classifier_folder, tmp_path / "biased.onnx", 50)
    better = run(classifier_folder, data, reference=biased, max_drop=0.0)
    assert better.passed
    assert better.classification is not None
    assert better.classification.drop is not None
    share = -better.classification.drop.value
    assert share > 0
    # Labelled as the biased model answers, the partitions drop by the same share.
    labels = np.zeros(ROWS, np.int64)
    path = tmp_path / "zeros.npz"
    np.savez(path, image=inputs(), labels=labels)
    for allowed, passed in ((1.0, True), (share, True), (share - 1e-9, False), (0.0, False)):
        found = run(classifier_folder, path, reference=biased, max_drop=allowed)
        assert found.passed == passed
        assert bool(found.problems) != passed
    assert "top-1 drops by" in found.problems[0]
    assert run(classifier_folder, path, reference=biased).passed, "without a stated drop"


def test_a_stated_drop_needs_labels(classifier_folder: ModelFolder, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", image=inputs())
    found = run(classifier_folder, tmp_path / "d.npz", max_drop=0.5)
    assert not found.passed
    assert "without labels" in found.problems[0]
    assert found.classification is not None
    assert found.classification.agreement is not None
    assert found.classification.agreement.value == 1


class Given:
    """Examples with given outputs; stops as Ctrl-C does where told."""

    kind = "made up"
    count = 3
    labelled = False
    remarks: list[str] = []  # noqa: RUF012 - never written to

    def __init__(self, outputs: Any, *, stop_after: int | None = None) -> None:
        self._outputs = outputs
        self._stop_after = stop_after

    def __iter__(self) -> Iterator[Example]:
        for number, (row, output) in enumerate(zip(inputs(3), self._outputs, strict=True)):
            if number == self._stop_after:
                raise KeyboardInterrupt
            expected = {"scores": output[np.newaxis]}
            yield Example(f"set {number}", {"image": row[np.newaxis]}, expected=expected)


def outputs_of(folder: ModelFolder) -> Any:
    return WholeModel(folder.model_path, "none").run({"image": inputs(3)})["scores"]


def with_given(folder: ModelFolder, given: Given, tolerance: Tolerance) -> Evaluation:
    return evaluate(
        folder,
        Path("d"),
        given,
        folder.model_path,
        criteria=Criteria(None, tolerance),
        step=lambda _: None,
    )


def test_given_outputs_decide(classifier_folder: ModelFolder) -> None:
    outputs = outputs_of(classifier_folder)
    loose = Tolerance(1e-3, 1e-5)
    found = with_given(classifier_folder, Given(outputs), loose)
    assert found.passed
    assert [each.subject for each in found.given] == ["whole model", "partitions"] * 3
    outputs[1, 2] += 1
    found = with_given(classifier_folder, Given(outputs), loose)
    assert not found.passed
    assert [each.passed for each in found.given] == [True, True, False, False, True, True]
    assert "set 1, whole model, output 'scores': 1 of 3 numbers" in found.problems[0]
    assert with_given(classifier_folder, Given(outputs), Tolerance(0, 1.01)).passed


def test_what_was_done_before_ctrl_c_is_kept(
    classifier_folder: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.accuracy.evaluation.TOGETHER", 1)
    given = Given(outputs_of(classifier_folder), stop_after=2)
    found = with_given(classifier_folder, given, Tolerance())
    assert (found.examples, found.complete, found.passed) == (2, False, False)
    assert len(found.given) == 4


@pytest.mark.parametrize(
    ("labels", "said"),
    [(np.full(ROWS, 2), None), (np.full(ROWS, 3), "expected 0 to 2")],
)
def test_labels_beyond_the_classes(
    classifier_folder: ModelFolder, tmp_path: Path, labels: Any, said: str | None
) -> None:
    np.savez(tmp_path / "d.npz", image=inputs(), labels=labels)
    if said is None:
        assert run(classifier_folder, tmp_path / "d.npz").examples == ROWS
        return
    with pytest.raises(Exception, match=said):
        run(classifier_folder, tmp_path / "d.npz")


def test_labels_for_a_model_without_classes(chain_folder: ModelFolder, tmp_path: Path) -> None:
    """A chain's output is 32 floats: labels up to 31 fit, more don't."""
    x = np.ones((2, 32), np.float32)
    np.savez(tmp_path / "d.npz", x=x, labels=np.array([0, 40]))
    with pytest.raises(AccuracyError, match=r"row 1: labels \[40\] don't fit an output of 1 rows"):
        run(chain_folder, tmp_path / "d.npz")


@pytest.mark.parametrize("name", ["missing.onnx", "garbage.onnx"])
def test_a_reference_that_is_none(
    classifier_folder: ModelFolder, data: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / "garbage.onnx").write_bytes(b"garbage")
    with pytest.raises(AccuracyError, match=name):
        run(classifier_folder, data, reference=tmp_path / name)


def test_a_reference_with_other_inputs(
    classifier_folder: ModelFolder, chain_folder: ModelFolder, data: Path
) -> None:
    with pytest.raises(AccuracyError, match="fails on row 0"):
        run(classifier_folder, data, reference=chain_folder.model_path)


@pytest.mark.parametrize(
    ("one", "two", "expected"),
    [
        ([1.0, 4.0], [1.0, 5.0], 0.25),
        ([0.0], [0.0], 0),
        ([NAN, INF], [NAN, INF], 0),
        ([NAN, 1], [1.0, 1], INF),
        ([1.0], [1.0, 2.0], INF),
    ],
)
def test_distance(one: list[float], two: list[float], expected: float) -> None:
    for dtype in ("float64", "float32"):  # a quantised model may have another element type
        assert distance(np.array(one), np.array(two, dtype=dtype)) == expected


def test_memory_holds_one_group(classifier_folder: ModelFolder) -> None:
    """No more examples are read than run together."""
    ahead: list[int] = []
    done = 0

    class Watched:
        kind, count, labelled, remarks = "watched", ROWS, False, list[str]()

        def __iter__(self) -> Iterator[Example]:
            for number, row in enumerate(inputs()):
                ahead.append(number + 1 - done)
                yield Example(str(number), {"image": row[np.newaxis]})

    def step(count: int) -> None:
        nonlocal done
        done = count

    evaluate(
        classifier_folder,
        Path("d"),
        Watched(),
        classifier_folder.model_path,
        criteria=Criteria(),
        step=step,
    )
    assert max(ahead) == TOGETHER


def test_partitions_of_other_weights_are_refused(
    classifier_folder: ModelFolder, data: Path, tmp_path: Path
) -> None:
    """What isn't planned isn't evaluated under the plan's name."""
    from tools.errors import ModelError
    from tools.model_folder import open_folder

    copy = folders.copy(classifier_folder.path, tmp_path / "shapes")
    folders.change_weight(copy / "001.onnx")
    with pytest.raises(ModelError, match=r"001\.onnx: not the file"):
        run(open_folder(copy), data)
