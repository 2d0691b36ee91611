"""Bundles without files, models that compute in Python, and threads that ask them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from app.errors import ApplianceError
from app.objects import Identity
from app.runner import Runner, RunResult
from app.serving.catalogue import Catalogue
from app.serving.models import Opened, Scan, ServedModel, Verified
from app.serving.residence import Residence
from app.serving.shares import Needs
from app.serving.together import LockStep
from app.tensors import Array
from tests import fakes
from tests.fakes import FakePartition, MemoryReader, RecordingEngine

WATCHDOG_S = 20.0
INPUTS: dict[str, Array] = {"x": np.zeros((1, 4), np.float32), "count": np.zeros(1, np.int64)}


def inputs(value: float, rows: int = 1) -> dict[str, Array]:
    return {"x": np.full((rows, 4), value, np.float32), "count": np.ones(1, np.int64)}


def until(condition: Callable[[], bool]) -> None:
    """Waits for another thread to make something true."""
    end = time.monotonic() + WATCHDOG_S
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < end, "the condition never became true"
        pause.wait(0.002)


@dataclass
class Gate:
    """Holds a computation until it is opened; says how many are at it."""

    opened: threading.Event = field(default_factory=threading.Event)
    reached: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def pass_through(self) -> None:
        self.reached.release()
        assert self.opened.wait(WATCHDOG_S)

    def wait(self) -> None:
        assert self.reached.acquire(timeout=WATCHDOG_S)


class Clock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


@dataclass
class FakeBundle:
    """A bundle of the model that adds `count` to `x`.

    Attributes:
        events: "verify", "open" and "close", in order.
        verify_error, open_error: raised instead.
        gate: what every run passes through.
        open_gate: what loading passes through.
        clock, open_ns: how long loading takes on it.
    """

    name: str = "sums"
    version: int = 1
    least_bytes: int = 100
    most_bytes: int = 100
    lock_step: int = 1
    number: int = 0
    events: list[str] = field(default_factory=list)
    verify_error: Exception | None = None
    open_error: Exception | None = None
    gate: Gate | None = None
    open_gate: Gate | None = None
    clock: Clock | None = None
    open_ns: int = 0
    readers: list[MemoryReader] = field(default_factory=list)

    @property
    def identity(self) -> Identity:
        return Identity(self.name, self.version, bytes([self.number]) * 32, 2)

    def verify(self) -> Verified:
        self.events.append("verify")
        if self.verify_error is not None:
            raise self.verify_error
        return Verified(fakes.TENSOR_CARD, Needs(self.least_bytes, self.most_bytes))

    def open(self, budget_bytes: int) -> Opened:
        self.events.append("open")
        if self.clock is not None:
            self.clock.now_ns += self.open_ns
        if self.open_gate is not None:
            self.open_gate.pass_through()
        if self.open_error is not None:
            raise self.open_error
        runner, reader = make_runner(self._compute, self.lock_step)
        self.readers.append(reader)
        close = runner.close

        def closed() -> None:
            self.events.append("close")
            close()

        runner.close = closed  # type: ignore[method-assign]
        return Opened(runner, LockStep(runner, self.lock_step), f"in {budget_bytes} bytes")

    def _compute(self, values: Any) -> dict[str, Array]:
        if self.gate is not None:
            self.gate.pass_through()
        return {"y": fakes.plus_count(values)["y"] * self.version}


def make_runner(
    compute: fakes.Compute, lock_step: int = 1, *, budget_bytes: int = 1 << 20, growth: int = 1
) -> tuple[Runner, MemoryReader]:
    """A runner of one partition, planned for one row."""
    card = fakes.TENSOR_CARD
    names = [each.name for each in card.inputs]
    wiring = fakes.layout(card.inputs, card.outputs, names, boundary_bytes=24)
    reader = MemoryReader([FakePartition(wiring, b"weights", compute)])
    runner = Runner(
        reader,
        RecordingEngine(reader),
        budget_bytes,
        card.inputs,
        card.outputs,
        lock_step=lock_step,
        growth=growth,
        overlap=False,
    )
    return runner, reader


@dataclass
class World:
    """A catalogue whose bundles a test changes as it likes."""

    bundles: list[FakeBundle]
    budget_bytes: int = 1000
    refused: Sequence[tuple[str, ApplianceError]] = ()
    said: list[str] = field(default_factory=list)
    drain_timeout_s: float = WATCHDOG_S
    room_timeout_s: float = WATCHDOG_S
    clock_ns: Callable[[], int] = time.perf_counter_ns

    def __post_init__(self) -> None:
        self.residence = Residence(
            self.budget_bytes,
            report=self.said.append,
            drain_timeout_s=self.drain_timeout_s,
            room_timeout_s=self.room_timeout_s,
            clock_ns=self.clock_ns,
        )
        self.catalogue = Catalogue(
            lambda: Scan(tuple(self.bundles), self.refused), self.residence, report=self.said.append
        )

    def start(self) -> World:
        self.catalogue.start({bundle.name for bundle in self.bundles})
        return self

    def ask(self, name: str = "sums", version: str | None = None) -> float:
        """The answer to a request for 1 + 1, which version N multiplies by N."""
        return answer(self.catalogue.find(name, version))

    def states(self) -> dict[tuple[str, int], str]:
        return {(entry.name, entry.version): entry.state for entry in self.catalogue.index()}


def answer(model: ServedModel, **more: Any) -> float:
    result: RunResult = model.infer(inputs(1), tenant="t", **more)
    return float(result.outputs["y"][0, 0])


class Crowd:
    """Threads that ask at the same time."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(32)

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def ask(self, call: Callable[..., Any], *arguments: Any, **more: Any) -> Future[Any]:
        return self._pool.submit(call, *arguments, **more)
