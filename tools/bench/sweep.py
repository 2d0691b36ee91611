"""One model in different numbers of partitions and in different budgets.

All are asked in turn in one process, together with the whole model resident in
memory; the peak of memory is taken of each in a process of its own.
"""

from __future__ import annotations

import random
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from app.engine import WholeModel
from app.errors import InputError
from app.limits import MIB
from tools.bench.campaign import Case, Step
from tools.bench.children import Tell, call_in_child
from tools.bench.memory import resident_bytes
from tools.bench.results import Row
from tools.bench.runner import SEED, Memory, measure_memory, open_runner, request_of
from tools.bench.runner import Case as RunnerCase
from tools.bench.subjects import Cut, Subject, encrypted, partitioned
from tools.errors import NoFeasiblePlanError
from tools.model_folder import open_folder

COUNTS: Final = (1, 2, 4, 6, 8, 10, 12)
BUDGETS: Final = tuple(size * MIB for size in (16, 32, 64, 128, 256, 512))
RESIDENT: Final = "resident"
"""Label of the whole model in memory, not protected."""

_MEMORY_ROUNDS: Final = 3
_WATCH_S: Final = 0.002
_MOST_POINTS: Final = 1000


@dataclass(frozen=True, slots=True)
class Settings:
    """What is tried.

    Attributes:
        counts: numbers of partitions.
        budgets: bounds in bytes.
        threads: of onnxruntime.
        rounds: counted rounds.
        scratch: folder for plans and bundles; emptied after each model.
    """

    counts: Sequence[int]
    budgets: Sequence[int]
    threads: int
    rounds: int
    scratch: Path


@dataclass(frozen=True, slots=True)
class _Variant:
    """One way of cutting, ready to run; without a case it isn't feasible, for the reason noted."""

    labels: dict[str, str]
    case: RunnerCase | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Course:
    """What one variant did in all rounds.

    Attributes:
        seconds: of each request.
        waits: seconds of each that were spent waiting for weights.
        decrypted_bytes: of one request in steady state.
    """

    seconds: tuple[float, ...]
    waits: tuple[float, ...]
    decrypted_bytes: int


def case_of(name: str, find: Callable[[str], Subject], settings: Settings) -> Case:
    """Gives the case of one model."""
    variants = len(settings.counts) + len(settings.budgets)
    return Case(
        f"{name}, partitions",
        settings.rounds + 1 + 2 * variants,
        lambda step: _measure(find(name), settings, step),
    )


def _measure(subject: Subject, settings: Settings, step: Step) -> list[Row]:
    scratch = settings.scratch / f"{subject.name}-sweep"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        variants = [
            _variant(subject, wanted, settings, scratch, step) for wanted in _wanted(settings)
        ]
        feasible = [variant.case for variant in variants if variant.case]
        courses = call_in_child(
            step, measure_in_turn, subject.source, feasible, settings.threads, settings.rounds
        )
        memories = [call_in_child(step, memory_of, case) for case in feasible]
    finally:
        shutil.rmtree(scratch)
    base = {"model": subject.name, "threads": str(settings.threads)}
    rows = [Row({**base, "cut": RESIDENT}, "latency", "s", courses[0].seconds)]
    measured = iter(zip(courses[1:], memories, strict=True))
    for variant in variants:
        labels = base | variant.labels
        if variant.case is None:
            rows.append(Row(labels, "latency", "s", (), variant.note))
        else:
            rows.extend(_rows(labels, *next(measured)))
    return rows


def _wanted(settings: Settings) -> list[Cut]:
    counts = [Cut(count=count, threads=settings.threads) for count in settings.counts]
    return counts + [Cut(size, threads=settings.threads) for size in settings.budgets]


def _variant(subject: Subject, cut: Cut, settings: Settings, scratch: Path, step: Step) -> _Variant:
    name = f"{cut.count}p" if cut.count else f"{(cut.budget_bytes or 0) // MIB}mib"
    kind = "count" if cut.count else "budget"
    labels = {"cut": kind, kind: str(cut.count or cut.budget_bytes)}
    try:
        folder = partitioned(subject, cut, scratch / name)
    except (NoFeasiblePlanError, InputError) as error:
        step()
        return _Variant(labels, None, str(error))
    bundle = encrypted(folder, scratch / f"{name}.bundle")
    step()
    labels |= {"partitions": str(len(folder.plan.partitions))}
    return _Variant(labels, RunnerCase(folder.path, bundle, settings.threads, 1, _MEMORY_ROUNDS))


def _rows(
    labels: dict[str, str],
    course: Course,
    watched: tuple[Memory, tuple[tuple[float, float], ...]],
) -> list[Row]:
    memory, points = watched
    moments, sizes = zip(*points, strict=True)
    return [
        Row(labels, "latency", "s", course.seconds),
        Row(labels, "wait", "s", course.waits),
        Row(labels, "decrypted", "bytes", (course.decrypted_bytes,)),
        Row(labels, "budget", "bytes", (memory.budget_bytes,)),
        Row(labels, "resident growth", "bytes", (memory.growth_bytes,)),
        Row(labels, "accounted", "bytes", (memory.accounted_bytes,)),
        Row(labels, "growth over time", "bytes", sizes, f"{_MEMORY_ROUNDS} requests", moments),
    ]


def memory_of(_tell: Tell, case: RunnerCase) -> tuple[Memory, tuple[tuple[float, float], ...]]:
    """Gives the peak of memory and its course; for a process of its own.

    Returns:
        The peak, and pairs of seconds and bytes of growth.
    """
    before, started = resident_bytes(), time.perf_counter()
    course = [(0.0, 0.0)]
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_WATCH_S):
            passed = time.perf_counter() - started
            course.append((passed, float(resident_bytes() - before)))

    watcher = threading.Thread(target=watch, name="watcher")
    watcher.start()
    try:
        memory = measure_memory(case)
    finally:
        ended.set()
        watcher.join()
    return memory, tuple(course[:: 1 + len(course) // _MOST_POINTS])


def measure_in_turn(
    tell: Tell, whole: Path, cases: Sequence[RunnerCase], threads: int, rounds: int
) -> list[Course]:
    """Runs the resident model and every variant once a round, in an order drawn anew.

    Returns:
        The resident model's course, then one for each variant.
    """
    folders = [open_folder(case.folder) for case in cases]
    request = request_of(folders[0], SEED)
    resident = WholeModel(whole, "all", threads, prepack=True)
    runners = [open_runner(folder, case) for folder, case in zip(folders, cases, strict=True)]
    seconds: list[list[float]] = [[] for _ in range(1 + len(runners))]
    waits: list[list[float]] = [[] for _ in range(1 + len(runners))]
    decrypted = [0] * (1 + len(runners))
    draw = random.Random(SEED)  # noqa: S311 - an order, not a secret
    for number in range(rounds + 1):
        for place in draw.sample(range(1 + len(runners)), 1 + len(runners)):
            started = time.perf_counter()
            result = runners[place - 1].run(request) if place else resident.run(request)
            if not number:
                continue
            seconds[place].append(time.perf_counter() - started)
            if place:
                timings = result.timings  # type: ignore[union-attr]
                waits[place].append(sum(each.wait_ns for each in timings) / 1e9)
                decrypted[place] = sum(each.weights_bytes for each in timings)
        tell(number)
    for runner in runners:
        runner.close()
    return [
        Course(tuple(times), tuple(waited), size)
        for times, waited, size in zip(seconds, waits, decrypted, strict=True)
    ]
