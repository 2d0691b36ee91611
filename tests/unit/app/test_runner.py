"""The runner with an in-memory bundle and an engine that records what is asked of it."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count

import numpy as np
import pytest

from app.errors import (
    BundleIntegrityError,
    ExecutionError,
    InputError,
    MemoryBudgetError,
)
from app.runner import Runner
from app.tensors import Array, TensorSpec
from tests.fakes import FakePartition, MemoryReader, RecordingEngine, layout, spec

X, A, B, Y = (spec(name, "batch", 4) for name in "xaby")
INPUT = {"x": np.arange(4, dtype=np.float32).reshape(1, 4)}
TENSOR_BYTES = 16


def partitions() -> list[FakePartition]:
    """X → a; a → b; x, b → y. `x` lives on to the last partition."""
    return [
        FakePartition(layout([X], [A]), b"1" * 10, lambda v: {"a": v["x"] + 1}),
        FakePartition(layout([A], [B], ["a"]), b"2" * 30, lambda v: {"b": v["a"] * 2}),
        FakePartition(layout([X, B], [Y], ["x", "b"]), b"3" * 20, lambda v: {"y": v["x"] + v["b"]}),
    ]


def make(
    parts: list[FakePartition],
    budget_bytes: int = 1 << 20,
    inputs: tuple[TensorSpec, ...] = (X,),
    outputs: tuple[TensorSpec, ...] = (Y,),
) -> tuple[Runner, MemoryReader, RecordingEngine]:
    reader = MemoryReader(parts)
    engine = RecordingEngine(reader)
    runner = Runner(reader, engine, budget_bytes, inputs, outputs, clock_ns=count().__next__)
    return runner, reader, engine


def test_partitions_are_loaded_and_run_in_order() -> None:
    runner, reader, engine = make(partitions())
    result = runner.run(INPUT)
    np.testing.assert_array_equal(result.outputs["y"], 3 * INPUT["x"] + 2)
    opened = [event for index in range(3) for event in (("structure", index), ("open", index))]
    ran = [event for index in range(3) for event in (("weights", index), ("run", index))]
    assert reader.events == opened + ran, "one partition's weights at a time"
    assert [seen[:size] for seen, size in zip(engine.seen_weights, (10, 30, 20), strict=True)] == [
        b"1" * 10,
        b"2" * 30,
        b"3" * 20,
    ]
    assert [timing.weights_bytes for timing in result.timings] == [10, 30, 20]
    assert all(timing.load_ns > 0 < timing.run_ns for timing in result.timings)


def test_values_are_gone_when_nobody_needs_them() -> None:
    seen: list[set[str]] = []

    def spy(inner: FakePartition) -> FakePartition:
        compute = inner.compute
        assert compute is not None

        def record(values: Mapping[str, Array]) -> dict[str, Array]:
            seen.append(set(values))
            return compute(values)

        return FakePartition(inner.layout, inner.weights, record)

    runner, _, _ = make([spy(each) for each in partitions()])
    runner.run(INPUT)
    assert seen == [{"x"}, {"x", "a"}, {"x", "b"}]


def test_peak_counts_buffer_and_boundary_and_activations() -> None:
    parts = partitions()
    parts[1] = FakePartition(layout([A], [B], ["a"], 100), parts[1].weights, parts[1].compute)
    runner, _, _ = make(parts)
    # 30 bytes of buffer, x and a, and the activations of the second partition.
    assert runner.run(INPUT).peak_bytes == 30 + 2 * TENSOR_BYTES + 100
    assert runner.run(INPUT).peak_bytes == 30 + 2 * TENSOR_BYTES + 100, "nothing accumulates"


def test_larger_request_counts_for_more() -> None:
    parts = partitions()
    parts[1] = FakePartition(layout([A], [B], ["a"], 100), parts[1].weights, parts[1].compute)
    runner, _, _ = make(parts)
    batch = {"x": np.zeros((3, 4), np.float32)}
    assert runner.run(batch).peak_bytes == 30 + 3 * 2 * TENSOR_BYTES + 3 * 100


def test_weights_buffer_above_the_budget_is_never_made() -> None:
    reader = MemoryReader(partitions())
    reader.scratch_bytes = 5
    with pytest.raises(MemoryBudgetError) as error:
        Runner(reader, RecordingEngine(reader), 34, (X,), (Y,))
    assert (error.value.partition, error.value.required_bytes) == (1, 35)
    assert reader.events == [], "not even a structure was read"


@pytest.mark.parametrize(
    ("budget_bytes", "events"),
    [
        (30 + TENSOR_BYTES - 1, []),
        (30 + TENSOR_BYTES, [("weights", 0), ("run", 0)]),
        (30 + 2 * TENSOR_BYTES, [("weights", 0), ("run", 0), ("weights", 1)]),
    ],
)
def test_budget_stops_before_it_is_exceeded(
    budget_bytes: int, events: list[tuple[str, int]]
) -> None:
    """At the third budget the activations don't fit: the partition isn't run."""
    parts = partitions()
    parts[1] = FakePartition(layout([A], [B], ["a"], 100), parts[1].weights, parts[1].compute)
    runner, reader, _ = make(parts, budget_bytes)
    reader.events.clear()
    with pytest.raises(MemoryBudgetError) as error:
        runner.run(INPUT)
    assert error.value.required_bytes > error.value.budget_bytes == budget_bytes
    assert reader.events == events


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({}, "expected the inputs"),
        ({"x": INPUT["x"], "z": INPUT["x"]}, "expected the inputs"),
        ({"x": INPUT["x"].astype(np.float64)}, "expected float32"),
        ({"x": INPUT["x"][0]}, "expected shape"),
        ({"x": np.zeros((1, 5), np.float32)}, "expected shape"),
    ],
)
def test_wrong_inputs_load_nothing(inputs: dict[str, Array], said: str) -> None:
    runner, reader, _ = make(partitions())
    reader.events.clear()
    with pytest.raises(InputError, match=said):
        runner.run(inputs)
    assert reader.events == []


def test_runner_stays_usable_after_a_failing_partition() -> None:
    parts = partitions()
    good = parts[1].compute
    runner, _, _ = make(parts)
    expected = runner.run(INPUT).peak_bytes

    def fail(values: Mapping[str, Array]) -> dict[str, Array]:
        raise ZeroDivisionError("a kernel")

    parts[1].compute = fail
    with pytest.raises(ExecutionError, match="partition 1, run: a kernel"):
        runner.run(INPUT)
    parts[1].compute = good
    assert runner.run(INPUT).peak_bytes == expected


def test_weights_that_do_not_authenticate_are_not_run() -> None:
    parts = partitions()
    runner, reader, _ = make(parts)
    parts[1].read_error = BundleIntegrityError()
    with pytest.raises(BundleIntegrityError):
        runner.run(INPUT)
    assert ("run", 1) not in reader.events
    assert ("weights", 2) not in reader.events
    parts[1].read_error = None
    assert runner.run(INPUT).outputs.keys() == {"y"}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ([layout([A], [Y])], r"partition 0, load: needs \['a'\]"),
        ([layout([X], [A], ["x"]), layout([X, A], [Y])], r"partition 1, load: needs \['x'\]"),
        ([layout([X], [Y], ["x", "x"])], r"partition 0, load: needs \['x'\]"),
        ([layout([X], [Y], ["z"])], r"partition 0, load: needs \['z'\]"),
        ([layout([X], [A])], r"partition 0, load: needs \['y'\]"),
        ([layout([X], [Y], ["y"])], r"partition 0, load: needs \['y'\]"),
    ],
)
def test_plan_that_does_not_fit_together_is_found_before_any_request(
    wrong: list[object], said: str
) -> None:
    with pytest.raises(ExecutionError, match=said):
        make([FakePartition(each) for each in wrong])  # type: ignore[arg-type]


def test_value_that_the_engine_refuses() -> None:
    runner, reader, engine = make(partitions())
    reader.events.clear()

    def refuse(array: Array) -> object:
        raise RuntimeError("strings")

    engine.wrap = refuse  # type: ignore[method-assign]
    with pytest.raises(ExecutionError, match="partition 0, bind: strings"):
        runner.run(INPUT)
    assert reader.events == []


def test_one_symbolic_dimension_has_one_size_in_all_inputs() -> None:
    other = spec("o", "batch", 2)
    parts = [FakePartition(layout([X, other], [Y], ["x", "o"]), b"1")]
    runner, reader, _ = make(parts, inputs=(X, other))
    with pytest.raises(InputError, match="dimension 'batch' is 2 here and 1 in another input"):
        runner.run({**INPUT, "o": np.zeros((2, 2), np.float32)})
    assert ("weights", 0) not in reader.events
