"""Runs a model's partitions one after another inside a byte budget.

For each partition: its weights are decrypted to their end into an owned,
reused buffer, bound without a copy, run, and boundary tensors that nobody
needs any more are dropped. Structures stay resident; what is left of the
budget keeps weights resident too (`app.schedule`), and the next partition's
weights are decrypted while this one runs (`app.stream`).

Several requests run in lock step: each loaded partition serves all of them
before the next is loaded, so that loading is paid once. One that is given up
or fails leaves the batch; the others go on.

The runner says what it needs as two protocols and imports neither the bundle
nor onnxruntime: `app.serving.repository` and the host's tools supply both.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from app.batch import Batch, Values
from app.errors import (
    ApplianceError,
    ExecutionError,
    InputError,
    MemoryBudgetError,
)
from app.ledger import Ledger
from app.loading import Load
from app.manifest import PartitionLayout
from app.schedule import Schedule, Stage, make_schedule, make_stages
from app.stream import WeightStream
from app.tensors import Array, TensorSpec, check_inputs
from app.wiring import check_wiring


class Reader(Protocol):
    """Where partitions come from."""

    @property
    def partition_count(self) -> int:
        """How many partitions there are, run in the order of their index."""
        ...

    @property
    def lanes(self) -> int:
        """Threads that may work on one load; with one, nothing is loaded ahead."""
        ...

    @property
    def scratch_bytes(self) -> int:
        """Memory the reader holds for itself."""
        ...

    def weights_bytes(self, partition: int) -> int:
        """Size of a partition's weights."""
        ...

    def read_structure(self, partition: int) -> tuple[PartitionLayout, bytes]:
        """Gives a partition's wiring and graph."""
        ...

    def load_weights(self, partition: int, into: NDArray[np.uint8]) -> Load:
        """Begins to fill the caller's buffer with authenticated weights."""
        ...


class Session(Protocol):
    """A partition ready to run."""

    def run(self, values: Mapping[str, Any], weights: NDArray[np.uint8]) -> dict[str, Any]:
        """Runs on the engine's values and gives the outputs by name."""
        ...


class Engine(Protocol):
    """What computes; its values are opaque here."""

    def open(self, graph: bytes, layout: PartitionLayout) -> Session:
        """Opens a partition."""
        ...

    def wrap(self, array: Array) -> Any:
        """Makes a value of an array."""
        ...

    def unwrap(self, value: Any) -> Array:
        """Gives a value's array."""
        ...

    def size_bytes(self, value: Any) -> int:
        """Gives a value's size in bytes."""
        ...


@dataclass(frozen=True, slots=True)
class PartitionTiming:
    """Where the time of one partition went.

    Attributes:
        partition: its index.
        load_ns: reading and decrypting its weights, all threads' time added up; 0 when they
            were in memory.
        wait_ns: the part of it that wasn't hidden behind computing.
        run_ns: computing, for all requests of the batch.
        weights_bytes: what was decrypted.
    """

    partition: int
    load_ns: int
    wait_ns: int
    run_ns: int
    weights_bytes: int


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run gives.

    Attributes:
        outputs: the whole model's outputs by name.
        timings: one per partition, in order; shared by the requests of a batch.
        peak_bytes: most bytes that this request took at any moment, with what the model always has.
            Those of a batch's other requests don't count: they may be other clients'.
    """

    outputs: dict[str, Array]
    timings: tuple[PartitionTiming, ...]
    peak_bytes: int


class Runner:
    """Runs one model. Used by one thread at a time.

    Args:
        reader: gives structures and weights.
        engine: computes.
        budget_bytes: bound on structures, weights, boundary tensors and activations together.
        inputs, outputs: the whole model's tensors.
        lock_step: most requests of one batch; room for their boundary tensors is kept.
        growth: how many times larger than the planned one a request may be; room is kept for it.
        overlap: whether a core is free to load weights while a partition runs.
        clock_ns: a monotonic clock in nanoseconds.

    Raises:
        MemoryBudgetError: when not even one partition's weights fit.
        BundleError: when a structure can't be read.
        ExecutionError: when a structure can't be opened, or reads what nothing before it makes.
    """

    def __init__(
        self,
        reader: Reader,
        engine: Engine,
        budget_bytes: int,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        *,
        lock_step: int = 1,
        growth: int = 1,
        overlap: bool = True,
        clock_ns: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self._engine = engine
        self._inputs = tuple(inputs)
        self._outputs = tuple(outputs)
        self._clock_ns = clock_ns
        self._lock_step = lock_step
        self._most_growth = growth
        self._ledger = Ledger(budget_bytes)
        self._ledger.reserve(reader.scratch_bytes, 0, "load")
        self._partitions = [self._open(reader, i) for i in range(reader.partition_count)]
        self._layouts = [layout for layout, _ in self._partitions]
        check_wiring(self._inputs, self._layouts, self._outputs)
        sizes = [reader.weights_bytes(index) for index in range(reader.partition_count)]
        self.schedule = self._make_schedule(sizes, overlap=overlap)
        self._stream = WeightStream(
            self.schedule,
            sizes,
            reader.load_weights,
            alone=reader.lanes == 1,
            clock_ns=clock_ns,
        )

    def _open(self, reader: Reader, index: int) -> tuple[PartitionLayout, Session]:
        layout, graph = reader.read_structure(index)
        self._ledger.reserve(layout.session_bytes, index, "load")
        try:
            return layout, self._engine.open(graph, layout)
        except Exception as error:
            raise ExecutionError(index, "load", str(error)) from error

    def _make_schedule(self, sizes: Sequence[int], *, overlap: bool) -> Schedule:
        stages = self._stages(sizes)
        room_bytes = self._ledger.budget_bytes - self._ledger.used_bytes
        schedule = make_schedule(stages, room_bytes, overlap=overlap)
        largest = sizes.index(max(sizes))
        if schedule is None:
            working_bytes = max(stage.working_bytes for stage in stages)
            required = self._ledger.used_bytes + max(sizes) + working_bytes
            raise MemoryBudgetError(largest, "load", required, self._ledger.budget_bytes)
        self._ledger.reserve(schedule.weights_bytes(stages), largest, "load")
        return schedule

    def _stages(self, sizes: Sequence[int]) -> list[Stage]:
        return make_stages(
            self._layouts,
            sizes,
            self._answer_bytes(),
            requests=self._lock_step,
            growth=self._most_growth,
        )

    def _answer_bytes(self) -> int:
        """Size of the planned request's outputs: as much above the smallest as its inputs are."""
        inputs, outputs = (
            sum(spec.bytes_with({}) or 0 for spec in specs)
            for specs in (self._inputs, self._outputs)
        )
        planned = self._layouts[0].boundary_bytes
        return outputs * max(1, -(-planned // inputs) if inputs else 1)

    def close(self) -> None:
        """Ends the loader's thread; the runner can't be used afterwards."""
        self._stream.close()

    def run(
        self, inputs: Mapping[str, Array], *, cancelled: Callable[[], bool] | None = None
    ) -> RunResult:
        """Runs all partitions for one request; see `run_batch`."""
        return self.run_batch([inputs], cancelled=cancelled)[0]

    def run_batch(
        self,
        requests: Sequence[Mapping[str, Array]],
        *,
        cancelled: Callable[[], bool] | None = None,
    ) -> list[RunResult]:
        """Runs all partitions for several requests in lock step; all have a result, or none.

        Args:
            requests: for each, one array per model input, of the declared element type and shape.
            cancelled: asked before every partition; True gives the whole batch up.

        Returns:
            One result per request, equal to what it would get alone.

        Raises:
            InputError, BundleIntegrityError: as `run_each`.
            ExecutionError: the first that `run_each` gives.
        """
        results = self.run_each(requests, cancelled=lambda _: cancelled is not None and cancelled())
        for result in results:
            if isinstance(result, ExecutionError):
                raise result
        return [result for result in results if isinstance(result, RunResult)]

    def run_each(
        self,
        requests: Sequence[Mapping[str, Array]],
        *,
        cancelled: Callable[[int], bool] | None = None,
    ) -> list[RunResult | ExecutionError]:
        """Runs several requests in lock step, each with an end of its own.

        Args:
            requests: as for `run_batch`.
            cancelled: asked before every partition for each request, by its place in `requests`;
                True gives that one up and its memory back, the others go on.

        Returns:
            For each request its result, or why it has none: a MemoryBudgetError before a partition
            that wouldn't fit, a CancelledError when `cancelled` said so, an ExecutionError when a
            partition failed. The runner stays usable after each.

        Raises:
            InputError: for missing, unknown or ill-shaped inputs, or too many requests;
                nothing was loaded.
            BundleIntegrityError: when weights don't authenticate; no request has a result.
        """
        self._check(requests)
        with self._ledger.run():
            return self._run_all(requests, cancelled or (lambda _: False))

    def _check(self, requests: Sequence[Mapping[str, Array]]) -> None:
        if not 1 <= len(requests) <= self._lock_step:
            raise InputError(f"expected 1 to {self._lock_step} requests, got {len(requests)}")
        for inputs in requests:
            check_inputs(self._inputs, inputs)

    def _run_all(
        self,
        requests: Sequence[Mapping[str, Array]],
        cancelled: Callable[[int], bool],
    ) -> list[RunResult | ExecutionError]:
        fixed_bytes = self._ledger.used_bytes
        batch = Batch(len(requests), lambda values: self._drop(values, list(values)))
        batch.each(lambda number, values: self._keep(values, self._wrap(requests[number]), 0))
        timings = []
        for index, (layout, session) in enumerate(self._partitions):
            batch.give_up(cancelled, index)
            if not batch.values:
                break
            self._stream.begin(index)
            timings.append(self._run_one(index, layout, session, batch))
        return [
            batch.failed.get(i) or self._result(batch.values[i], timings, fixed_bytes)
            for i in range(len(requests))
        ]

    def _result(
        self, values: Values, timings: Sequence[PartitionTiming], fixed_bytes: int
    ) -> RunResult:
        outputs = {spec.name: self._engine.unwrap(values[spec.name]) for spec in self._outputs}
        return RunResult(outputs, tuple(timings), fixed_bytes + values.peak_bytes)

    def _wrap(self, inputs: Mapping[str, Array]) -> dict[str, Any]:
        try:
            return {spec.name: self._engine.wrap(inputs[spec.name]) for spec in self._inputs}
        except Exception as error:
            raise ExecutionError(0, "bind", str(error)) from error

    def _run_one(
        self, index: int, layout: PartitionLayout, session: Session, batch: Batch
    ) -> PartitionTiming:
        loaded = self._stream.take(index)
        started = self._clock_ns()
        batch.each(lambda _, values: self._compute(index, layout, session, values, loaded.buffer))
        finished = self._clock_ns()
        self._stream.release(index)
        return PartitionTiming(
            index, loaded.load_ns, loaded.wait_ns, finished - started, loaded.bytes
        )

    def _compute(
        self,
        index: int,
        layout: PartitionLayout,
        session: Session,
        values: Values,
        weights: NDArray[np.uint8],
    ) -> None:
        activation_bytes = layout.activation_bytes * self._growth(layout, values)
        self._ledger.reserve(activation_bytes, index, "run")
        values.note(activation_bytes)
        try:
            outputs = session.run(values, weights)
        except ApplianceError:
            raise
        except Exception as error:
            raise ExecutionError(index, "run", str(error)) from error
        finally:
            self._ledger.release(activation_bytes)
        self._keep(values, outputs, index)
        self._drop(values, layout.release)

    def _growth(self, layout: PartitionLayout, values: Mapping[str, Any]) -> int:
        """How many times larger this request is than the one the plan was made for."""
        actual = sum(self._engine.size_bytes(values[spec.name]) for spec in layout.inputs)
        return max(1, -(-actual // layout.input_bytes)) if layout.input_bytes else 1

    def _keep(self, values: Values, new: Mapping[str, Any], partition: int) -> None:
        size_bytes = sum(self._engine.size_bytes(value) for value in new.values())
        self._ledger.reserve(size_bytes, partition, "bind")
        values.count(size_bytes)
        values.update(new)

    def _drop(self, values: Values, names: Iterable[str]) -> None:
        for name in names:
            size_bytes = self._engine.size_bytes(values.pop(name))
            self._ledger.release(size_bytes)
            values.count(-size_bytes)
