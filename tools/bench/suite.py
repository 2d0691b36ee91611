"""The runner's benchmark: which models in which budgets, and how each is prepared."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from app.limits import MIB
from tools.bench.runner import (
    Case,
    Memory,
    Speed,
    in_child,
    measure_limited,
    measure_memory,
    measure_naive,
    measure_speed,
    write_keyed_bundle,
)
from tools.bench.subjects import find_subject
from tools.model_folder import open_folder, write_folder
from tools.planner.planner import plan_for_budget
from tools.preparation import prepare, tile_size

BATCHES: Final = (1, 2, 4, 8, 16)
"""Requests in lock step."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A model in a budget, and the ratios to the resident model that are to be reached.

    Attributes:
        model: its name in the zoo.
        budget_bytes: for all of the model's memory.
        one_thread, two_threads: largest ratio accepted.
    """

    model: str
    budget_bytes: int
    one_thread: float
    two_threads: float

    def accepted(self, threads: int) -> float:
        """Gives the ratio to reach with so many threads."""
        return self.one_thread if threads == 1 else self.two_threads


BOUNDS: Final = (
    Bound("resnet-50", 64 * MIB, 1.15, 1.35),
    Bound("vgg-19", 85 * MIB, 1.22, 1.25),
    Bound("densenet-121", 48 * MIB, 1.08, 1.12),
    Bound("alexnet", 32 * MIB, 2.0, 2.1),
    Bound("squeezenet-1.1", 12 * MIB, 1.15, 1.30),
    Bound("mobilenet-v2", 64 * MIB, 1.03, 1.05),
    Bound("resnet-50", 256 * MIB, 1.03, 1.05),
)
"""The last two have room for the whole model."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the result.

    Attributes:
        bound: what was asked.
        threads: of onnxruntime.
        lock_step: requests per batch.
        speed: the runner against the resident model.
        memory: without a limit, and `limited` under the kernel's; None when not measured.
        naive_ratio: the naive design against the resident model; None when not measured.
    """

    bound: Bound
    threads: int
    lock_step: int
    speed: Speed
    memory: Memory | None
    limited: Memory | None
    naive_ratio: float | None


@dataclass(frozen=True, slots=True)
class Suite:
    """Runs the benchmark.

    Attributes:
        folder: where models, plans and bundles are kept between runs.
        rounds: counted rounds of each case.
        naive_rounds: of the naive design; 0 leaves it out.
        say: called with what is being done.
    """

    folder: Path
    rounds: int
    naive_rounds: int
    say: Callable[[str], None]

    def rows(
        self, bounds: tuple[Bound, ...], threads: tuple[int, ...], batches: tuple[int, ...]
    ) -> Iterator[Row]:
        """Measures every combination, one after another."""
        for bound in bounds:
            for count in threads:
                for batch in batches:
                    yield self._row(bound, count, batch)

    def _row(self, bound: Bound, threads: int, batch: int) -> Row:
        case = self._case(bound, threads, batch)
        name = f"{bound.model} in {bound.budget_bytes // MIB} MiB, {threads} threads, batch {batch}"
        self.say(f"{name}: speed")
        speed = in_child(measure_speed, case)
        memory = limited = None
        if batch == 1:
            self.say(f"{name}: memory")
            memory = in_child(measure_memory, replace(case, rounds=3))
            limited = in_child(measure_limited, replace(case, rounds=3))
        naive = None
        if self.naive_rounds and batch == 1:
            self.say(f"{name}: naive design")
            naive = in_child(measure_naive, self._naive_case(bound, threads))
        return Row(bound, threads, batch, speed, memory, limited, naive)

    def _case(self, bound: Bound, threads: int, batch: int) -> Case:
        label = f"{bound.model}-{bound.budget_bytes // MIB}-{threads}t-{batch}"
        folder = self.folder / "plans" / label
        self.say(f"{label}: planning and encrypting")
        self._plan(bound, folder, "all", "time", threads=threads, lock_step=batch)
        bundle = self.folder / "bundles" / f"{label}.bundle"
        write_keyed_bundle(open_folder(folder), bundle)
        return Case(folder, bundle, threads, batch, self.rounds)

    def _naive_case(self, bound: Bound, threads: int) -> Case:
        folder = self.folder / "plans" / f"{bound.model}-{bound.budget_bytes // MIB}-naive"
        self._plan(bound, folder, "none", "partitions", threads=1, lock_step=1)
        return Case(folder, folder, threads, 1, self.naive_rounds)

    def _plan(
        self,
        bound: Bound,
        folder: Path,
        optimization: str,
        objective: str,
        *,
        threads: int,
        lock_step: int,
    ) -> None:
        source = find_subject(bound.model, self.folder.parent / "zoo").source
        tile_bytes = tile_size(bound.budget_bytes, objective)
        prepared = prepare(
            source, optimization, {}, tile_bytes=tile_bytes, budget_bytes=bound.budget_bytes
        )
        plan = plan_for_budget(
            prepared.summary,
            bound.budget_bytes,
            objective=objective,
            overlap=threads == 1,
            threads=threads,
            lock_step=lock_step,
        )
        write_folder(source, prepared.model, prepared.plan(plan), folder, lambda _: None)
