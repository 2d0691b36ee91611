"""Batches give what every request would get alone, and no request hurts another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.engine import OrtEngine
from app.errors import CancelledError, ExecutionError, MemoryBudgetError
from app.runner import Runner, RunResult
from app.serving.job import Job
from app.serving.together import LEAST_GAIN, LEAST_STEP, LockStep, Rows, best_width, can_join
from app.tensors import Array
from tests import fakes, folders, models
from tests.fakes import spec
from tests.unit.app.serving.worlds import inputs, make_runner
from tools.accuracy.readers import FolderReader

ROW = spec("x", "batch", 4)


def jobs(*values: float, rows: int = 1) -> list[Job]:
    return [Job(inputs=inputs(value, rows), client="t") for value in values]


def row_jobs(*values: float, rows: int = 1) -> list[Job]:
    return [
        Job(inputs={"x": np.full((rows, 4), value, np.float32)}, client="t") for value in values
    ]


def row_runner(
    compute: fakes.Compute, growth: int, budget_bytes: int = 1 << 20
) -> tuple[Runner, fakes.MemoryReader]:
    wiring = fakes.layout([ROW], [spec("y", "batch", 4)], ["x"], boundary_bytes=16)
    reader = fakes.MemoryReader([fakes.FakePartition(wiring, b"weights", compute)])
    runner = Runner(
        reader,
        fakes.RecordingEngine(reader),
        budget_bytes,
        [ROW],
        [spec("y", "batch", 4)],
        growth=growth,
        overlap=False,
    )
    return runner, reader


def value(outcome: object) -> float:
    assert isinstance(outcome, RunResult)
    return float(outcome.outputs["y"][0, 0])


def double(values: Mapping[str, Array]) -> dict[str, Array]:
    return {"y": values["x"] * 2}


def failing_on(bad: float, compute: fakes.Compute) -> fakes.Compute:
    def inner(values: Mapping[str, Array]) -> dict[str, Array]:
        if (values["x"] == bad).any():
            raise ZeroDivisionError("a kernel")
        return compute(values)

    return inner


def test_lock_step_gives_each_its_own() -> None:
    runner, _ = make_runner(fakes.plus_count, 4)
    together = LockStep(runner, 4)
    assert [value(each) for each in together.run(jobs(1, 2, 3))] == [2, 3, 4]


def test_in_lock_step_one_that_fails_does_not_hurt_the_others() -> None:
    runner, _ = make_runner(failing_on(2, fakes.plus_count), 4)
    good, bad, other = LockStep(runner, 4).run(jobs(1, 2, 3))
    assert (value(good), value(other)) == (2, 4)
    assert isinstance(bad, ExecutionError)
    assert "a kernel" in str(bad)


def test_in_lock_step_one_that_leaves_does_not_hurt_the_others() -> None:
    runner, reader = make_runner(fakes.plus_count, 4)
    batch = jobs(1, 2, 3)
    batch[1].gone = lambda: True
    good, left, other = LockStep(runner, 4).run(batch)
    assert (value(good), value(other)) == (2, 4)
    assert isinstance(left, CancelledError)
    assert reader.events.count(("run", 0)) == 2


def test_in_lock_step_a_small_one_fits_beside_one_that_takes_all_memory() -> None:
    """Alone the small one would have an answer, so it has one here."""
    runner, _ = make_runner(fakes.plus_count, 2, budget_bytes=150)
    batch = [*jobs(1, rows=4), *jobs(2)]
    for order in (batch, batch[::-1]):
        alone = [LockStep(runner, 2).run([job])[0] for job in order]
        found = LockStep(runner, 2).run(order)
        assert [type(each) for each in found] == [type(each) for each in alone]
        assert [value(each) for each in found] == [value(each) for each in alone]


def test_rows_give_each_its_own_in_one_run() -> None:
    runner, reader = row_runner(double, growth=4)
    batch = [*row_jobs(1, rows=2), *row_jobs(5)]
    first, second = Rows(runner, 4).run(batch)
    assert isinstance(first, RunResult)
    assert isinstance(second, RunResult)
    assert first.outputs["y"].tolist() == [[2] * 4] * 2
    assert second.outputs["y"].tolist() == [[10] * 4]
    assert reader.events.count(("run", 0)) == 1


def test_rows_of_which_one_fails_run_one_by_one() -> None:
    runner, _ = row_runner(failing_on(2, double), growth=4)
    good, bad, other = Rows(runner, 4).run(row_jobs(1, 2, 3))
    assert (value(good), value(other)) == (2, 6)
    assert isinstance(bad, ExecutionError)


def test_rows_of_a_model_that_makes_another_number_of_them_run_one_by_one() -> None:
    runner, reader = row_runner(lambda values: {"y": values["x"].sum(0, keepdims=True)}, growth=4)
    assert [value(each) for each in Rows(runner, 4).run(row_jobs(1, 2))] == [1, 2]
    assert reader.events.count(("run", 0)) == 3


def test_rows_run_on_while_anybody_waits() -> None:
    runner, reader = row_runner(double, growth=4)
    batch = row_jobs(1, 2)
    batch[0].gone = lambda: True
    assert value(Rows(runner, 4).run(batch)[1]) == 4
    batch[1].gone = lambda: True
    runs = reader.events.count(("run", 0))
    assert all(isinstance(each, CancelledError) for each in Rows(runner, 4).run(batch))
    assert reader.events.count(("run", 0)) == runs


def test_rows_that_fit() -> None:
    runner, _ = row_runner(double, growth=4)
    rows = Rows(runner, 4)
    assert rows.fits(row_jobs(1), row_jobs(2, rows=3)[0])
    assert not rows.fits(row_jobs(1), row_jobs(2, rows=4)[0]), "no more rows than have room"
    other = Job(inputs={"x": np.zeros((1, 5), np.float32)}, client="t")
    assert not rows.fits(row_jobs(1), other)


@pytest.mark.parametrize(
    ("inputs", "outputs", "expected"),
    [
        ([spec("a", "n", 4)], [spec("b", "n")], True),
        ([spec("a", "n", 4), spec("c", "n")], [spec("b", "n")], True),
        ([spec("a", "n", 4), spec("c", "m")], [spec("b", "n")], False),
        ([spec("a", "n", 4)], [spec("b", 1)], False),
        ([spec("a", 4)], [spec("b", 4)], False),
        ([spec("a")], [spec("b")], False),
        ([], [spec("b", "n")], False),
    ],
)
def test_models_whose_requests_can_be_rows(
    inputs: list[Any], outputs: list[Any], expected: bool
) -> None:
    assert can_join(inputs, outputs) is expected


@given(st.integers(0, 1000), st.integers(1, 1000), st.integers(1, 64))
def test_width_is_what_sharing_the_loading_is_worth(load: int, run: int, most: int) -> None:
    def share(requests: int) -> float:
        return load / requests + run

    width = best_width(lambda requests: load + run * requests, most)
    assert 1 <= width <= most
    if width > 1:
        assert share(width) < share(1) * (1 - LEAST_GAIN)
        assert share(most) >= share(width) * (1 - LEAST_STEP), "no wider one is worth its memory"


def test_width_where_nothing_is_shared_or_nothing_more_fits() -> None:
    assert best_width(lambda requests: 100 * requests, 8) == 1
    assert best_width(lambda requests: 1000 + requests, 8) == 8
    assert best_width(lambda requests: 1000 + requests if requests < 4 else None, 8) == 2
    assert best_width(lambda requests: None, 8) == 1
    assert best_width(lambda requests: 1000 + requests, 3) == 3, "the widest allowed is looked at"
    # Half of a request is loading: a width of 8 still shortens that of 4 by 10 % of a share.
    assert best_width(lambda requests: 50 + 50 * requests, 8) == 8
    # Loading hides behind computing but for a little.
    assert best_width(lambda requests: 5 + 100 * requests, 8) == 1
    asked: list[int] = []
    assert best_width(asked.append, 1) == 1
    assert asked == [], "nothing is opened to find out what is clear"


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Runner]:
    """The chain of convolutions on onnxruntime, as runners of a lock step or growth."""
    folder = folders.make_folder(
        models.chain(), tmp_path_factory.mktemp("together") / "chain", count=4
    )

    def make(**more: int) -> Runner:
        reader = FolderReader(folder)
        card = folder.card
        return Runner(reader, OrtEngine(), 1 << 24, card.inputs, card.outputs, **more)  # type: ignore[arg-type]

    return make


def test_lock_step_on_onnxruntime_is_bit_equal_to_single_requests(
    real: Callable[..., Runner],
) -> None:
    runner = real(lock_step=5)
    generator = np.random.default_rng(1)
    (tensor,) = runner._inputs
    shape = [size if isinstance(size, int) else 1 for size in tensor.shape or ()]
    batch = [
        Job(inputs={tensor.name: generator.normal(size=shape).astype(np.float32)}, client="t")
        for _ in range(5)
    ]
    together = LockStep(runner, 5)
    alone = [runner.run(job.inputs) for job in batch]
    for one, many in zip(alone, together.run(batch), strict=True):
        assert isinstance(many, RunResult)
        assert {name: array.tobytes() for name, array in one.outputs.items()} == {
            name: array.tobytes() for name, array in many.outputs.items()
        }


def test_memory_of_one_that_left_is_there_for_the_others() -> None:
    runner, _ = make_runner(fakes.plus_count, 2)
    found = runner.run_each([inputs(1), inputs(2)], cancelled=lambda number: number == 0)
    assert isinstance(found[0], CancelledError)
    alone = runner.run(inputs(2))
    assert isinstance(found[1], RunResult)
    assert runner.run(inputs(2)).peak_bytes == alone.peak_bytes
    with pytest.raises(MemoryBudgetError):
        runner.run(inputs(1, rows=1 << 18))
