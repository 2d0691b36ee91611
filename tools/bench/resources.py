"""What the packed appliance uses: at start-up, for the first request, in steady state."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tools.bench.campaign import Case, Step
from tools.bench.client import Client, Request, encoded
from tools.bench.packed import PackedModel, build_image, serving
from tools.bench.power import open_meter
from tools.bench.process_tree import Sample, look, watched, windows
from tools.bench.results import NOT_AVAILABLE, Row
from tools.bench.runner import SEED, request_of
from tools.bench.subjects import Cut, Subject, encrypted, in_budget
from tools.model_folder import ModelFolder

WINDOWS_S: Final = (1, 10)
NO_POWER: Final = f"{NOT_AVAILABLE}: the machine shows no RAPL counters under /sys/class/powercap"


@dataclass(frozen=True, slots=True)
class Settings:
    """What is measured.

    Attributes:
        budget_bytes: of the partitions; None takes what `tools.bench.subjects.in_budget` says.
        threads: of onnxruntime.
        steady_s: length of the steady state.
        scratch: folder for bundles and images; emptied after each model.
    """

    budget_bytes: int | None
    threads: int
    steady_s: float
    scratch: Path


def case_of(name: str, find: Callable[[str], Subject], settings: Settings) -> Case:
    """Gives the case of one model; its steps are seconds of the steady state."""
    steps = int(settings.steady_s)
    return Case(f"{name}, resources", steps, lambda step: _measure(find(name), settings, step))


def _measure(subject: Subject, settings: Settings, step: Step) -> list[Row]:
    scratch = settings.scratch / f"{subject.name}-resources"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        cut = {scratch / subject.name: Cut(threads=settings.threads)}
        folder = in_budget(subject, settings.budget_bytes, cut)[0]
        bundle = encrypted(folder, scratch / "bundle")
        packed = build_image(folder, bundle, scratch / "packed", settings.threads)
        return _observe(subject.name, folder, packed, settings, step)
    finally:
        shutil.rmtree(scratch)


def _observe(
    name: str, folder: ModelFolder, packed: PackedModel, settings: Settings, step: Step
) -> list[Row]:
    meter = open_meter()
    started = time.perf_counter()
    with serving(packed, packed.instance.parent / "appliance.log") as (running, endpoint):
        ready = look(running.process_id, meter)
        request = encoded(request_of(folder, SEED))
        with Client(endpoint) as client, watched(running.process_id, meter) as samples:
            first_started = time.perf_counter()
            answer = client.infer(packed.model, request)
            answer.outputs()
            first_s = time.perf_counter() - first_started
            begun = len(samples)
            latencies = _steady(client, packed.model, request, settings.steady_s, step)
    labels = {
        "model": name,
        "runtime": answer.runtime,
        "threads": str(settings.threads),
        "plan budget": str(folder.plan.budget_bytes),
        "partitions": str(len(folder.plan.partitions)),
    }
    beginning = {**labels, "phase": "start-up"}
    return [
        Row(beginning, "time", "s", (ready.at_s - started,)),
        Row(beginning, "processor time", "s", (ready.cpu_s,)),
        Row(beginning, "resident", "bytes", (float(ready.resident_bytes),)),
        _power_row(beginning, ready, ready.at_s - started),
        Row({**labels, "phase": "first request"}, "time", "s", (first_s,), "with the handshake"),
        *_steady_rows({**labels, "phase": "steady"}, samples[begun:], latencies),
        _course({**labels, "phase": "all"}, samples),
    ]


def _steady(
    client: Client, model: str, request: Request, steady_s: float, step: Step
) -> list[float]:
    """Sends one request after another; gives their latencies."""
    found = []
    started = time.perf_counter()
    told = 0
    while (passed := time.perf_counter() - started) < steady_s:
        answer = client.infer(model, request)
        found.append(answer.latency_s)
        while told < int(passed):
            told += 1
            step()
    return found


def _power_row(labels: dict[str, str], ready: Sample, elapsed_s: float) -> Row:
    if ready.joules is None:
        return Row(labels, "power", "W", (), NO_POWER)
    return Row(labels, "power", "W", (ready.joules / elapsed_s,))


def _steady_rows(
    labels: dict[str, str], samples: Sequence[Sample], latencies: Sequence[float]
) -> Iterator[Row]:
    yield Row(labels, "latency", "s", tuple(latencies))
    for length_s in WINDOWS_S:
        found = windows(samples, length_s)
        of_window = {**labels, "window": f"{length_s} s"}
        short = "" if found else f"{NOT_AVAILABLE}: the steady state was shorter than a window"
        sizes = tuple(float(each.resident_bytes) for each in found)
        watts = tuple(each.watts for each in found if each.watts is not None)
        yield Row(of_window, "cores in use", "", tuple(each.cores for each in found), short)
        yield Row(of_window, "resident", "bytes", sizes, short)
        yield Row(of_window, "power", "W", watts, "" if watts else short or NO_POWER)


def _course(labels: dict[str, str], samples: Sequence[Sample]) -> Row:
    return Row(
        labels,
        "resident over time",
        "bytes",
        tuple(float(each.resident_bytes) for each in samples),
        "from ready on; what processes share counts for each",
        tuple(each.at_s - samples[0].at_s for each in samples),
    )
