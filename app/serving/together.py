"""Two ways to run requests of one model together.

In lock step every request keeps its own tensors and each partition runs once
per request while its weights are there: the results are those that every
request would get alone, bit for bit. As rows of one tensor a partition runs
once for all: kernels may add up in another order for another number of rows, so
the last bits may differ, and a model that mixes its rows would mix clients.
Hence rows are an option of the configuration, off by default, and lock step is
the rule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from app.errors import CancelledError, ExecutionError, MemoryBudgetError
from app.runner import Runner, RunResult
from app.serving.job import Job
from app.tensors import Array, TensorSpec

LEAST_GAIN: Final = 0.1
"""How much shorter a request's share of a batch must be: a batch delays its first answer."""

LEAST_STEP: Final = 0.02
"""How much shorter still than in a narrower batch: less than this is not worth the memory."""

Outcome = RunResult | ExecutionError


@dataclass(frozen=True, slots=True)
class LockStep:
    """Requests side by side, one partition after another.

    Attributes:
        runner: made with `most` as its lock step.
        most: requests of one batch.
    """

    runner: Runner
    most: int

    def fits(self, batch: Sequence[Job], job: Job) -> bool:
        """Says yes: all requests of a model fit."""
        del batch, job
        return True

    def run(self, batch: Sequence[Job]) -> list[Outcome]:
        """Runs a batch. A request for which there was no room beside the others runs alone."""
        outcomes = _run(self.runner, batch)
        if len(batch) == 1:
            return outcomes
        return [
            _run(self.runner, [job])[0] if isinstance(outcome, MemoryBudgetError) else outcome
            for job, outcome in zip(batch, outcomes, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class Rows:
    """Requests as rows of one tensor.

    Attributes:
        runner: made with `most` as its growth.
        most: rows of one batch in units of the planned request, and requests of one batch.
    """

    runner: Runner
    most: int

    def fits(self, batch: Sequence[Job], job: Job) -> bool:
        """Whether it can join: rows of the same shape, as many as there is room for."""
        rows = sum(map(_rows, batch)) + _rows(job)
        return rows <= self.most and _row_shapes(batch[0]) == _row_shapes(job)

    def run(self, batch: Sequence[Job]) -> list[Outcome]:
        """Runs a batch. When it fails, its requests run one by one."""
        if len(batch) == 1:
            return _run(self.runner, batch)
        names = batch[0].inputs.keys()
        joined = {name: np.concatenate([job.inputs[name] for job in batch]) for name in names}

        def nobody_waits(_: int) -> bool:
            return all(job.end() is not None for job in batch)

        (outcome,) = self.runner.run_each([joined], cancelled=nobody_waits)
        if isinstance(outcome, CancelledError):
            return [outcome] * len(batch)
        parts = None if isinstance(outcome, ExecutionError) else _split(outcome, batch)
        return parts or [_run(self.runner, [job])[0] for job in batch]


def can_join(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> bool:
    """Whether every tensor of a model has the same symbolic dimension first."""
    first = {spec.shape[0] if spec.shape else None for spec in (*inputs, *outputs)}
    return bool(inputs) and len(first) == 1 and isinstance(first.pop(), str)


def best_width(request_ns: Callable[[int], int | None], most: int) -> int:
    """Decides how many requests run in lock step.

    More only pay where loading weights is shared; where they are in memory, or loading hides
    behind computing, a batch would answer all of its requests late for nothing.

    Args:
        request_ns: predicted time of a batch of so many; None when it doesn't fit into memory.
        most: the widest batch allowed.

    Returns:
        1, or the widest that shortens a request's share by `LEAST_STEP` against the narrower one
        before that did so, if that makes `LEAST_GAIN` in all.
    """
    alone_ns = request_ns(1) if most > 1 else None
    if alone_ns is None:
        return 1
    best = width = 1
    share_ns = float(alone_ns)
    while width < most:
        width = min(2 * width, most)
        batch_ns = request_ns(width)
        if batch_ns is None:
            break
        if batch_ns / width < share_ns * (1 - LEAST_STEP):
            best, share_ns = width, batch_ns / width
    return best if share_ns < alone_ns * (1 - LEAST_GAIN) else 1


def _run(runner: Runner, batch: Sequence[Job]) -> list[Outcome]:
    inputs: list[Mapping[str, Array]] = [job.inputs for job in batch]

    def nobody_waits(number: int) -> bool:
        return batch[number].end() is not None

    return runner.run_each(inputs, cancelled=nobody_waits)


def _rows(job: Job) -> int:
    return max((array.shape[0] for array in job.inputs.values()), default=0)


def _row_shapes(job: Job) -> dict[str, tuple[int, ...]]:
    return {name: array.shape[1:] for name, array in job.inputs.items()}


def _split(result: RunResult, batch: Sequence[Job]) -> list[Outcome] | None:
    """Cuts the outputs by rows; None when the model made another number of them."""
    ends = np.cumsum([0, *map(_rows, batch)]).tolist()
    if any(array.ndim == 0 or len(array) != ends[-1] for array in result.outputs.values()):
        return None
    return [
        RunResult(
            {name: array[start:end] for name, array in result.outputs.items()},
            result.timings,
            result.peak_bytes,
        )
        for start, end in pairwise(ends)
    ]
