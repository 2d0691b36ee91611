"""Compares the ways of keeping a model, from request sent to answer read.

Each round asks every way once, in an order that is drawn anew, so that no way
always follows the same other. The first round isn't counted.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from app.tensors import Array
from tools.bench.campaign import Case, Step
from tools.bench.children import child, receive
from tools.bench.client import Answer, Client, Endpoint, encoded
from tools.bench.packed import PackedModel, build_image, serving
from tools.bench.page_cache import cached_share, make_cold, make_warm
from tools.bench.results import Row
from tools.bench.runner import SEED, request_of
from tools.bench.subjects import Cut, Subject, encrypted, in_budget, partitioned
from tools.bench.ways import DEPLOYED, MEMORY, WAYS, Announcement, Kept, serve_ways
from tools.errors import BenchmarkError
from tools.model_folder import ModelFolder, open_folder
from tools.serving_client import Trust

PACKED: Final = "partitions-packed"
PACKED_TITLE: Final = "the same in the packed image"
CACHES: Final = ("warm", "cold")
PHASES: Final = ("tls", "decode", "read", "decrypt", "wait", "bind", "run", "encode")
"""Parts of a request, in their order. "tls" is everything around what the server times: TLS, HTTP,
the way through the loopback interface; "wait" is reading and decrypting where the runner does both
ahead of need, as far as the request noticed it."""

TOLERANCE: Final = 1e-3
"""Largest difference of two ways' outputs, relative to the largest output: other kernels give
differences near 1e-6, an error gives far more."""

_STILL_WARM: Final = 0.01


@dataclass(frozen=True, slots=True)
class Settings:
    """How ways are compared.

    Attributes:
        budget_bytes: of the partitions; None takes what `tools.bench.subjects.in_budget` says.
        rounds: counted rounds.
        scratch: folder for plans, bundles and images; emptied after each case.
        packed: whether the packed image is measured too.
    """

    budget_bytes: int | None
    rounds: int
    scratch: Path
    packed: bool


@dataclass(frozen=True, slots=True)
class _Target:
    """A way, as the client sees it."""

    way: str
    model: str
    client: Client
    files: tuple[Path, ...]


def case_of(name: str, find: Callable[[str], Subject], threads: int, settings: Settings) -> Case:
    """Gives the case of one model with one number of threads.

    Args:
        name: of the model.
        find: finds it, or makes it.
        threads: of onnxruntime.
        settings: how to compare.
    """
    ways = len(WAYS) + settings.packed
    return Case(
        f"{name}, {threads} threads",
        (settings.rounds + 1) * ways * len(CACHES),
        lambda step: _measure(find(name), threads, settings, step),
    )


def _measure(subject: Subject, threads: int, settings: Settings, step: Step) -> list[Row]:
    scratch = settings.scratch / f"{subject.name}-{threads}"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        kept = _keep(subject, threads, settings.budget_bytes, scratch)
        packed = _pack(kept, scratch) if settings.packed else None
        with ExitStack() as stack:
            targets = _targets(stack, subject.name, kept, packed, scratch)
            comparison = _Comparison(subject.name, kept, targets, settings.rounds, step)
            return comparison.rows()
    finally:
        shutil.rmtree(scratch)


def _keep(subject: Subject, threads: int, budget_bytes: int | None, scratch: Path) -> Kept:
    """Cuts and encrypts the model in all forms."""
    whole = partitioned(subject, Cut(count=1, threads=threads), scratch / "whole")
    naive, deployed = in_budget(
        subject,
        budget_bytes,
        {
            scratch / "naive": Cut(threads=threads, optimization="none", objective="partitions"),
            scratch / subject.name: Cut(threads=threads),
        },
    )
    return Kept(
        whole=whole.path,
        whole_bundle=encrypted(whole, scratch / "whole.bundle"),
        naive=naive.path,
        deployed=deployed.path,
        deployed_bundle=encrypted(deployed, scratch / "deployed.bundle"),
        scratch=scratch / "encrypted",
        threads=threads,
    )


def _pack(kept: Kept, scratch: Path) -> PackedModel:
    folder = open_folder(kept.deployed)
    return build_image(folder, kept.deployed_bundle, scratch / "packed", kept.threads)


def _targets(
    stack: ExitStack, name: str, kept: Kept, packed: PackedModel | None, scratch: Path
) -> list[_Target]:
    messages = stack.enter_context(child(serve_ways, kept))
    _, announcement = receive(messages)
    if not isinstance(announcement, Announcement):
        raise BenchmarkError(f"{name}: the server ended before it was ready")
    trust = Trust(ca_text=announcement.certificate)
    endpoint = Endpoint(f"https://localhost:{announcement.port}", trust)
    client = stack.enter_context(Client(endpoint))
    found = [_Target(way, way, client, announcement.files[way]) for way in WAYS]
    if packed is not None:
        _, endpoint = stack.enter_context(serving(packed, scratch / "appliance.log"))
        client = stack.enter_context(Client(endpoint))
        found.append(_Target(PACKED, packed.model, client, packed.files))
    return found


class _Comparison:
    """Asks the ways of one model in turn and collects their rows."""

    def __init__(
        self, name: str, kept: Kept, targets: Sequence[_Target], rounds: int, step: Step
    ) -> None:
        self._name = name
        self._folder = open_folder(kept.deployed)
        self._threads = kept.threads
        self._targets = targets
        self._rounds = rounds
        self._step = step
        self._request = encoded(request_of(self._folder, SEED))
        self._answers: dict[tuple[str, str], list[Answer]] = {}
        self._still_cached: dict[str, float] = {}
        self._runtimes: dict[str, str] = {}

    def rows(self) -> list[Row]:
        """Measures everything and gives the rows."""
        self._warm_up()
        order = [(target, cache) for target in self._targets for cache in CACHES]
        draw = random.Random(SEED)  # noqa: S311 - an order, not a secret
        for _ in range(self._rounds):
            draw.shuffle(order)
            for target, cache in order:
                self._answers.setdefault((target.way, cache), []).append(self._ask(target, cache))
        return [
            row
            for target in self._targets
            for cache in CACHES
            for row in self._rows_of(target, cache)
        ]

    def _warm_up(self) -> None:
        """Asks every way once and compares what they compute."""
        expected = None
        for target in self._targets:
            make_cold(target.files)
            self._still_cached[target.way] = cached_share(target.files) if target.files else 0.0
            for _ in CACHES:
                answer = self._ask(target, "warm")
            outputs = answer.outputs()
            self._runtimes[target.way] = answer.runtime
            expected = expected or outputs
            compare_outputs(self._name, target.way, expected, outputs)

    def _ask(self, target: _Target, cache: str) -> Answer:
        (make_cold if cache == "cold" else make_warm)(target.files)
        answer = target.client.infer(target.model, self._request)
        self._step()
        return answer

    def _rows_of(self, target: _Target, cache: str) -> Iterator[Row]:
        answers = self._answers[target.way, cache]
        labels = {
            "model": self._name,
            "mode": target.way,
            "runtime": self._runtimes[target.way],
            "threads": str(self._threads),
            "cache": cache,
            "partitions": str(_partitions(target.way, self._folder)),
            "plan budget": str(self._folder.plan.budget_bytes),
        }
        yield Row(
            labels,
            "latency",
            "s",
            tuple(each.latency_s for each in answers),
            self._note(target, cache),
        )
        for phase, samples in phase_samples(answers).items():
            yield Row(labels, phase, "s", samples)

    def _note(self, target: _Target, cache: str) -> str:
        if cache == "warm":
            return ""
        if not target.files or target.way == "memory-bundle":
            return "reads no file while it answers"
        share = self._still_cached[target.way]
        if share > _STILL_WARM:
            return f"the kernel kept {share:.0%} of the files in memory"
        return ""


def phase_samples(answers: Sequence[Answer]) -> dict[str, tuple[float, ...]]:
    """Gives seconds by phase, one number an answer; empty when the server tells none.

    A phase that took no time in any answer is left out.
    """
    told = [each.phases for each in answers]
    if not all("total" in phases for phases in told):
        return {}
    known = [name for name in PHASES if any(phases.get(name) for phases in told)]
    found = {name: tuple(phases.get(name, 0.0) for phases in told) for name in known}
    outside = tuple(
        each.latency_s - phases["total"] for each, phases in zip(answers, told, strict=True)
    )
    return {"tls": outside, **found}


def _partitions(way: str, folder: ModelFolder) -> int | str:
    if way in (DEPLOYED, PACKED):
        return len(folder.plan.partitions)
    return 1 if way != "partitions-naive" else ""


def compare_outputs(
    name: str,
    way: str,
    expected: Mapping[str, Array],
    actual: Mapping[str, Array],
) -> None:
    """Compares what two ways computed.

    Raises:
        BenchmarkError: when they differ by more than `TOLERANCE`.
    """
    for output in expected:
        one, two = (each[output].astype(np.float64) for each in (expected, actual))
        scale = float(np.abs(one).max()) or 1.0
        difference = float(np.abs(one - two).max()) / scale
        if not difference <= TOLERANCE:
            raise BenchmarkError(
                f"{name}: output {output!r} of {way!r} differs from {MEMORY!r} by {difference:.2g} "
                f"of its largest value; at most {TOLERANCE} is a matter of rounding"
            )
