"""The runner with an in-memory bundle and an engine that records what is asked of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count

import numpy as np
import pytest

from app.errors import (
    BundleIntegrityError,
    BusyError,
    CancelledError,
    ExecutionError,
    InputError,
    MemoryBudgetError,
)
from app.runner import Runner, RunResult
from app.schedule import LANES
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


ONE_SLOT = 30 + 3 * TENSOR_BYTES
"""Room for the largest weights and the tensors of `planned()`, too little to keep weights."""


def make(
    parts: list[FakePartition],
    budget_bytes: int = ONE_SLOT,
    inputs: tuple[TensorSpec, ...] = (X,),
    outputs: tuple[TensorSpec, ...] = (Y,),
    *,
    lock_step: int = 1,
    growth: int = 1,
    overlap: bool = False,
) -> tuple[Runner, MemoryReader, RecordingEngine]:
    reader = MemoryReader(parts, lanes=LANES if overlap else 1)
    engine = RecordingEngine(reader)
    runner = Runner(
        reader,
        engine,
        budget_bytes,
        inputs,
        outputs,
        lock_step=lock_step,
        growth=growth,
        overlap=overlap,
        clock_ns=count().__next__,
    )
    return runner, reader, engine


def planned(
    activation_bytes: int = 0, weights: Sequence[int] = (10, 30, 20), session_bytes: int = 0
) -> list[FakePartition]:
    """`partitions()` with the figures that a plan gives; activations in the second."""
    boundaries = (TENSOR_BYTES, 2 * TENSOR_BYTES, 2 * TENSOR_BYTES)
    found = []
    for index, (part, boundary) in enumerate(zip(partitions(), boundaries, strict=True)):
        wiring = replace(
            part.layout,
            boundary_bytes=boundary,
            activation_bytes=activation_bytes if index == 1 else TENSOR_BYTES,
            session_bytes=session_bytes,
        )
        found.append(FakePartition(wiring, bytes([49 + index]) * weights[index], part.compute))
    return found


def test_partitions_are_loaded_and_run_in_order() -> None:
    runner, reader, engine = make(planned())
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

    runner, _, _ = make([spy(each) for each in planned()])
    runner.run(INPUT)
    assert seen == [{"x"}, {"x", "a"}, {"x", "b"}]


def test_peak_counts_buffer_and_boundary_and_activations() -> None:
    runner, _, _ = make(planned(100), ONE_SLOT - TENSOR_BYTES + 100)
    # 30 bytes of buffer, x and a, and the activations of the second partition.
    assert runner.run(INPUT).peak_bytes == 30 + 2 * TENSOR_BYTES + 100
    assert runner.run(INPUT).peak_bytes == 30 + 2 * TENSOR_BYTES + 100, "nothing accumulates"


def test_larger_request_counts_for_more() -> None:
    """The room of a small request keeps no weights, that of a large one is free already."""
    parts = planned(100, weights=(300, 400, 400))
    runner, _, _ = make(parts, 400 + 3 * (2 * TENSOR_BYTES + 100))
    batch = {"x": np.zeros((3, 4), np.float32)}
    assert runner.run(batch).peak_bytes == 400 + 3 * 2 * TENSOR_BYTES + 3 * 100


def test_weights_buffer_above_the_budget_is_never_made() -> None:
    reader = MemoryReader(partitions())
    reader.scratch_bytes = 5
    with pytest.raises(MemoryBudgetError) as error:
        Runner(reader, RecordingEngine(reader), 34, (X,), (Y,))
    assert (error.value.partition, error.value.required_bytes) == (1, 35)
    assert not [event for event in reader.events if event[0] == "weights"]


def test_structure_above_the_budget_is_never_opened() -> None:
    reader = MemoryReader(planned(session_bytes=100))
    reader.scratch_bytes = 5
    with pytest.raises(MemoryBudgetError) as error:
        Runner(reader, RecordingEngine(reader), 204, (X,), (Y,))
    assert (error.value.partition, error.value.required_bytes) == (1, 205)
    assert reader.events == [("structure", 0), ("open", 0), ("structure", 1)]


@pytest.mark.parametrize("weights", [(10, 30, 20), (90, 1, 1), (1, 1, 90)])
@pytest.mark.parametrize("activation_bytes", [0, 100, 1000])
def test_refusal_says_a_budget_that_would_do(
    weights: tuple[int, int, int], activation_bytes: int
) -> None:
    """Weights and working memory may be largest in different partitions."""
    parts = planned(activation_bytes, weights, session_bytes=7)
    with pytest.raises(MemoryBudgetError) as error:
        make(parts, 50)
    required = error.value.required_bytes
    assert required > 50
    runner, _, _ = make(parts, required)
    assert runner.run(INPUT).peak_bytes <= required
    with pytest.raises(MemoryBudgetError):
        make(parts, required - 1)


BIG = ONE_SLOT - TENSOR_BYTES + 100
"""What `planned(100)` needs with the weights of 30 bytes in a slot."""


@pytest.mark.parametrize(
    ("rows", "budget_bytes", "events"),
    [
        (100, BIG, []),
        (5, BIG, [("weights", 0), ("run", 0)]),
        (2, BIG, [("weights", 0), ("run", 0), ("weights", 1)]),
    ],
)
def test_budget_stops_before_it_is_exceeded(
    rows: int, budget_bytes: int, events: list[tuple[str, int]]
) -> None:
    """The inputs don't fit; then what the first makes; then the activations of the second."""
    parts = planned(100)
    parts[0].layout = replace(parts[0].layout, activation_bytes=0)
    runner, reader, _ = make(parts, budget_bytes)
    reader.events.clear()
    with pytest.raises(MemoryBudgetError) as error:
        runner.run({"x": np.zeros((rows, 4), np.float32)})
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
    parts = planned()
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
    parts = planned()
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


def batch_of(count: int) -> list[dict[str, Array]]:
    return [{"x": np.full((1, 4), number, np.float32)} for number in range(count)]


@pytest.mark.parametrize("overlap", [False, True])
def test_lock_step_loads_once_and_answers_each_its_own(overlap: bool) -> None:
    runner, reader, _ = make(planned(), ONE_SLOT + 8 * TENSOR_BYTES, lock_step=4, overlap=overlap)
    alone = [runner.run(inputs).outputs["y"].tobytes() for inputs in batch_of(4)]
    reader.events.clear()
    together = runner.run_batch(batch_of(4))
    assert [result.outputs["y"].tobytes() for result in together] == alone
    assert len(set(alone)) == 4
    assert [index for kind, index in reader.events if kind == "run"] == [0] * 4 + [1] * 4 + [2] * 4
    assert len({result.timings for result in together}) == 1


@pytest.mark.parametrize("count", [0, 3])
def test_batch_of_another_size_loads_nothing(count: int) -> None:
    runner, reader, _ = make(planned(), ONE_SLOT + 4 * TENSOR_BYTES, lock_step=2)
    reader.events.clear()
    with pytest.raises(InputError, match=f"expected 1 to 2 requests, got {count}"):
        runner.run_batch(batch_of(count))
    assert reader.events == []


def test_one_wrong_request_of_a_batch_loads_nothing() -> None:
    runner, reader, _ = make(planned(), ONE_SLOT + 4 * TENSOR_BYTES, lock_step=2)
    reader.events.clear()
    with pytest.raises(InputError):
        runner.run_batch([*batch_of(1), {}])
    assert reader.events == []


@pytest.mark.parametrize("lock_step", [1, 2, 5])
@pytest.mark.parametrize("overlap", [False, True])
def test_planned_batch_fits_whatever_grows_on_the_way(lock_step: int, overlap: bool) -> None:
    """A partition that makes far more than it takes, and one that takes far more than it makes."""
    wide = spec("a", "batch", 64)
    parts = [
        FakePartition(
            layout([X], [wide], ["x"], 600, boundary_bytes=16),
            b"1" * 50,
            lambda v: {"a": np.repeat(v["x"], 16, axis=1)},
        ),
        FakePartition(
            layout([wide], [Y], ["a"], 20, boundary_bytes=256),
            b"2" * 40,
            lambda v: {"y": v["a"][:, ::16]},
        ),
    ]
    with pytest.raises(MemoryBudgetError) as error:
        make(parts, 1, lock_step=lock_step)
    budget = error.value.required_bytes
    runner, _, _ = make(parts, budget, lock_step=lock_step, overlap=overlap)
    for _ in range(2):
        for number, result in enumerate(runner.run_batch(batch_of(lock_step))):
            assert (result.outputs["y"] == number).all()
            assert result.peak_bytes <= budget


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("stop", [0, 1, 2])
def test_cancelled_between_partitions(stop: int, overlap: bool) -> None:
    runner, reader, _ = make(planned(), ONE_SLOT, overlap=overlap)
    expected = runner.run(INPUT)
    reader.events.clear()
    asked = count()
    with pytest.raises(CancelledError) as error:
        runner.run(INPUT, cancelled=lambda: next(asked) == stop)
    assert error.value.partition == stop
    assert [index for kind, index in reader.events if kind == "run"] == list(range(stop))
    again = runner.run(INPUT)
    assert again.outputs["y"].tobytes() == expected.outputs["y"].tobytes()
    assert again.peak_bytes == expected.peak_bytes, "nothing of the cancelled one is counted"


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("more_bytes", range(0, 70, 5))
def test_any_room_gives_the_same_answer_inside_it(more_bytes: int, overlap: bool) -> None:
    budget = ONE_SLOT + more_bytes
    runner, reader, engine = make(planned(), budget, overlap=overlap)
    for _ in range(3):
        result = runner.run(INPUT)
        np.testing.assert_array_equal(result.outputs["y"], 3 * INPUT["x"] + 2)
        assert result.peak_bytes <= budget
    runner.close()
    pinned = runner.schedule.pinned
    loads = [index for kind, index in reader.events if kind == "weights"]
    assert all(loads.count(index) == 1 for index in pinned)
    assert all(loads.count(index) >= 3 for index in set(range(3)) - pinned)
    seen = [bytes(each).rstrip(b"\0")[:1] for each in engine.seen_weights]
    assert seen == [b"1", b"2", b"3"] * 3, "never another partition's weights"


def test_what_is_kept_is_loaded_once_and_reported_as_free() -> None:
    runner, reader, _ = make(planned(), 1 << 20, overlap=True)
    assert runner.schedule.pinned == {0, 1, 2}
    runner.run(INPUT)
    reader.events.clear()
    timings = runner.run(INPUT).timings
    assert [kind for kind, _ in reader.events] == ["run"] * 3
    assert [(each.load_ns, each.wait_ns, each.weights_bytes) for each in timings] == [(0, 0, 0)] * 3


@pytest.mark.parametrize("overlap", [False, True])
def test_error_of_ours_passes_unchanged(overlap: bool) -> None:
    parts = planned()
    runner, _, _ = make(parts, overlap=overlap)

    def fail(values: Mapping[str, Array]) -> dict[str, Array]:
        raise BusyError("full", 7)

    parts[1].compute = fail
    with pytest.raises(BusyError):
        runner.run(INPUT)


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("failing", [0, 1, 2])
def test_weights_that_fail_ahead_of_their_turn_stop_only_their_partition(
    failing: int, overlap: bool
) -> None:
    parts = planned()
    runner, reader, _ = make(parts, overlap=overlap)
    parts[failing].read_error = BundleIntegrityError()
    for _ in range(2):
        with pytest.raises(BundleIntegrityError):
            runner.run(INPUT)
    assert ("run", failing) not in reader.events
    parts[failing].read_error = None
    assert runner.run(INPUT).outputs.keys() == {"y"}


def test_room_is_kept_for_larger_requests() -> None:
    """Weights are kept in memory only as far as the largest request leaves room."""
    parts = [replace(p, layout=replace(p.layout, activation_bytes=100)) for p in partitions()]
    small, _, _ = make(parts, budget_bytes=245)
    large, _, _ = make(parts, budget_bytes=245, growth=2)
    assert small.schedule.pinned == frozenset({0, 1, 2})
    assert large.schedule.pinned < small.schedule.pinned


def outcomes(found: Sequence[RunResult | ExecutionError]) -> list[object]:
    """The answer of each request of `batch_of`, or the kind of its error."""
    return [
        result.outputs["y"][0, 0] if isinstance(result, RunResult) else type(result)
        for result in found
    ]


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("stop", [0, 1, 2])
@pytest.mark.parametrize("who", [{0}, {2}, {0, 1}, {0, 1, 2, 3}])
def test_requests_that_are_given_up_leave_the_batch_and_the_others_go_on(
    stop: int, who: set[int], overlap: bool
) -> None:
    runner, reader, _ = make(planned(), ONE_SLOT + 8 * TENSOR_BYTES, lock_step=4, overlap=overlap)
    expected = outcomes(runner.run_each(batch_of(4)))
    reader.events.clear()
    asked = [0] * 4

    def cancelled(number: int) -> bool:
        asked[number] += 1
        return number in who and asked[number] > stop

    found = outcomes(runner.run_each(batch_of(4), cancelled=cancelled))
    assert found == [CancelledError if i in who else expected[i] for i in range(4)]
    runs = [index for kind, index in reader.events if kind == "run"]
    for index in range(3):
        assert runs.count(index) == (4 if index < stop else 4 - len(who))
    assert outcomes(runner.run_each(batch_of(4))) == expected, "nothing stays behind"


def test_a_request_that_fails_leaves_the_batch_and_its_memory() -> None:
    """The third partition has room for the tensors of the others only once they are given back."""
    parts = planned()
    good = parts[1].compute
    assert good is not None

    def fail(values: Mapping[str, Array]) -> dict[str, Array]:
        if values["a"][0, 0] == 2:
            raise ZeroDivisionError("a kernel")
        return good(values)

    parts[1].compute = fail
    runner, _, _ = make(parts, ONE_SLOT + 4 * TENSOR_BYTES, lock_step=2)
    failed, served = runner.run_each(batch_of(3)[1:])
    assert isinstance(failed, ExecutionError)
    assert "partition 1, run: a kernel" in str(failed)
    assert isinstance(served, RunResult)
    assert (served.outputs["y"] == 8).all()
    with pytest.raises(ExecutionError, match="a kernel"):
        runner.run_batch(batch_of(3)[1:])
    assert runner.run_each(batch_of(1))[0].peak_bytes == runner.run(batch_of(1)[0]).peak_bytes  # type: ignore[union-attr]


def test_one_too_large_for_the_room_that_is_left_leaves_the_others_theirs() -> None:
    runner, _, _ = make(planned(), ONE_SLOT + 2 * TENSOR_BYTES, lock_step=2)
    large = {"x": np.zeros((100, 4), np.float32)}
    for order in ([large, INPUT], [INPUT, large]):
        found = runner.run_each(order)
        kinds = [type(each) for each in found]
        assert sorted(kind.__name__ for kind in kinds) == ["MemoryBudgetError", "RunResult"]
        assert kinds[0 if order[0] is INPUT else 1] is RunResult


def test_weights_that_do_not_authenticate_end_the_whole_batch() -> None:
    parts = planned()
    runner, _, _ = make(parts, ONE_SLOT + 8 * TENSOR_BYTES, lock_step=4)
    parts[1].read_error = BundleIntegrityError()
    with pytest.raises(BundleIntegrityError):
        runner.run_each(batch_of(2))
    parts[1].read_error = None
    assert len(runner.run_each(batch_of(2))) == 2


@pytest.mark.parametrize("others", [1, 3])
def test_a_request_s_peak_says_nothing_of_who_runs_with_it(others: int) -> None:
    """Another client's tensors would show in the memory that an answer names."""
    runner, _, _ = make(planned(100), ONE_SLOT + 900, lock_step=1 + others)
    alone = runner.run(INPUT).peak_bytes
    large = {"x": np.zeros((2, 4), np.float32)}
    for place in (0, others):
        batch = [large] * others
        batch.insert(place, INPUT)
        own = runner.run_each(batch)[place]
        assert isinstance(own, RunResult)
        assert own.peak_bytes == alone
