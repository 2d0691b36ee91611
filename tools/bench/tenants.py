"""One tenant with one connection, alone and beside another with many.

The other tenant's clients would be on other machines; here they take the appliance's cores, and
whoever shares a busy core waits for it. So there is a third kind of stretch: alone at the
appliance, while something else keeps the cores busy that never asks it anything.
"""

from __future__ import annotations

import os
import random
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tools.bench.campaign import Case, Step
from tools.bench.client import Client
from tools.bench.load import Service
from tools.bench.packed import serving
from tools.bench.process_tree import descendants
from tools.bench.results import Row
from tools.bench.rivals import (
    ALONE,
    BUSY,
    QUIET,
    RIVAL,
    Heard,
    Prepared,
    ask,
    busy_cores,
    latency_rows,
    listen,
    prepare,
    ratio_rows,
    rival,
    together,
)
from tools.bench.runner import SEED
from tools.bench.subjects import Subject
from tools.errors import BenchmarkError

CONNECTIONS: Final = 64
SHARED: Final = "shared"
PINNED: Final = "pinned"
"""Who runs where: all on all cores; clients on one, the appliance on the others."""

BESIDE: Final = "beside"

_WARM_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Settings:
    """How much load for how long.

    Attributes:
        connections: of the other tenant, each a closed loop.
        seconds: length of one stretch.
        rounds: stretches of each kind, in an order drawn anew.
        threads: of onnxruntime.
        scratch: folder for bundles and images; emptied after each case.
    """

    connections: int
    seconds: float
    rounds: int
    threads: int
    scratch: Path


@dataclass(frozen=True, slots=True)
class Pressed:
    """What the other tenant got.

    Attributes:
        throughput: right answers per second.
        errors: how many of each kind.
    """

    throughput: float
    errors: Counter[str]


def case_of(
    name: str, find: Callable[[str], Subject], settings: Settings, cores: str = SHARED
) -> Case:
    """Gives the case of one model in the packed image."""
    return Case(
        f"{name}, tenants, cores {cores}",
        3 * settings.rounds,
        lambda step: _measure_packed(find(name), settings, cores, step),
    )


def _measure_packed(subject: Subject, settings: Settings, cores: str, step: Step) -> list[Row]:
    place = settings.scratch / f"{subject.name}-tenants"
    try:
        prepared = prepare(subject, settings.threads, place)
        with (
            serving(prepared.packed, place / "appliance.log") as (running, endpoint),
            _placed(running.process_id, cores) as core,
        ):
            services = {name: prepared.service(endpoint, name) for name in (QUIET, RIVAL)}
            return measure(prepared, services, settings, core, step)
    finally:
        shutil.rmtree(place, ignore_errors=True)


@contextmanager
def _placed(process_id: int, cores: str) -> Iterator[int | None]:
    """Gives this thread one core and the appliance the others; gives the clients' core."""
    if cores == SHARED:
        yield None
        return
    there = os.sched_getaffinity(0)
    if len(there) == 1:
        raise BenchmarkError("--pin needs two cores, but this process may use one only")
    mine = max(there)
    for each in descendants(process_id):
        for task in _tasks(each):
            with suppress(ProcessLookupError):
                os.sched_setaffinity(task, there - {mine})
    os.sched_setaffinity(0, {mine})
    try:
        yield mine
    finally:
        os.sched_setaffinity(0, there)


def _tasks(process_id: int) -> list[int]:
    with suppress(OSError):
        return [int(each.name) for each in Path(f"/proc/{process_id}/task").iterdir()]
    return []


def measure(
    prepared: Prepared,
    services: dict[str, Service],
    settings: Settings,
    core: int | None,
    step: Step,
) -> list[Row]:
    """Measures the first tenant alone, alone on busy cores, and beside the other.

    Args:
        prepared: the image.
        services: what each tenant asks.
        settings: how long.
        core: where clients run; None: on all.
        step: called after each stretch.

    Raises:
        ServingError: the server doesn't answer one request.
    """
    with Client(services[QUIET].endpoint) as first:
        runtime = first.infer(prepared.packed.model, prepared.request).runtime
    listen(services[QUIET], _WARM_S)
    draw = random.Random(SEED)  # noqa: S311 - an order, not a secret
    found = _Found()
    for _ in range(settings.rounds):
        for stretch in draw.sample((found.be_alone, found.be_on_busy_cores, found.be_beside), 3):
            stretch(services, settings, core)
            step()
    cores = SHARED if core is None else PINNED
    labels = {**prepared.labels, "runtime": runtime, "cores": cores}
    return list(found.rows({**labels, "connections": str(settings.connections)}))


@dataclass(slots=True)
class _Found:
    """What came of the stretches of each kind."""

    alone: list[Heard] = field(default_factory=list)
    busy: list[Heard] = field(default_factory=list)
    beside: list[Heard] = field(default_factory=list)
    pressed: list[Pressed] = field(default_factory=list)

    def be_alone(self, services: dict[str, Service], settings: Settings, core: int | None) -> None:
        del core
        self.alone.append(listen(services[QUIET], settings.seconds))

    def be_on_busy_cores(
        self, services: dict[str, Service], settings: Settings, core: int | None
    ) -> None:
        with busy_cores(core):
            self.busy.append(listen(services[QUIET], settings.seconds))

    def be_beside(self, services: dict[str, Service], settings: Settings, core: int | None) -> None:
        with rival(core, keep_busy, services[RIVAL], settings.connections) as end:
            self.beside.append(listen(services[QUIET], settings.seconds))
            self.pressed.append(end())

    def rows(self, labels: dict[str, str]) -> Iterator[Row]:
        yield from latency_rows({**labels, "when": ALONE}, self.alone)
        yield from latency_rows({**labels, "when": BUSY}, self.busy)
        beside = {**labels, "when": BESIDE}
        yield from latency_rows(beside, self.beside)
        yield from ratio_rows(beside, self.alone, self.beside)
        yield from ratio_rows(beside, self.busy, self.beside, " to busy cores")
        other = {**labels, "when": "the other tenant"}
        kinds = sum((each.errors for each in self.pressed), Counter[str]())
        note = ", ".join(f"{kind}: {count}" for kind, count in sorted(kinds.items()))
        yield Row(other, "throughput", "1/s", tuple(each.throughput for each in self.pressed))
        errors = tuple(float(each.errors.total()) for each in self.pressed)
        yield Row(other, "errors", "", errors, note)


def keep_busy(
    ready: Callable[[], object], stop: threading.Event, service: Service, connections: int
) -> Pressed:
    """Asks on many connections until the stop, each again as soon as it has its answer."""
    heard = [Heard() for _ in range(connections)]
    begun: list[tuple[float, int]] = []

    def begin() -> None:
        begun.append((time.perf_counter(), _answers(heard)))
        ready()

    together(begin, stop, [_asking(service, mine) for mine in heard])
    ((started, before),) = begun
    rate = (_answers(heard) - before) / (time.perf_counter() - started)
    return Pressed(rate, sum((each.errors for each in heard), Counter[str]()))


def _asking(service: Service, heard: Heard) -> Iterator[None]:
    with Client(service.endpoint) as client:
        while True:
            ask(client, service, heard)
            yield


def _answers(heard: Sequence[Heard]) -> int:
    return sum(len(each.latencies) for each in heard)
