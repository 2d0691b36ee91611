"""Compares what a plan predicted with what its partitions take, each in a fresh process."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import ParamSpec, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from app.objects import KEY_BYTES
from tools.bench.children import started
from tools.bundling.writer import BundleKeys, write_bundle
from tools.errors import BenchmarkError
from tools.measurement.child import Subject, measure_partition, measure_whole, record_values
from tools.model_folder import ModelFolder
from tools.planner.plan import Plan

P = ParamSpec("P")
T = TypeVar("T")

_CHILD = "tools.measurement.child"


def measure_plan(folder: ModelFolder, done: Callable[[int], None]) -> Plan:
    """Runs every partition alone and then all of them, as deployed: from an encrypted bundle.

    A process is forked from one that has imported everything and run nothing, so that no
    allocator remembers the measurement before.

    Args:
        folder: a model's folder.
        done: called with the number of steps done; there are `step_count` of them.

    Returns:
        The plan with what was measured.

    Raises:
        BenchmarkError: when a process failed.
    """
    plan = folder.plan
    with tempfile.TemporaryDirectory(prefix="cloister-") as scratch:
        subject = _subject(folder, Path(scratch), done)
        fresh = _Fresh()
        fresh.call(record_values, subject)
        steps = len(plan.partitions)
        done(steps + 1)
        alone = []
        for partition in plan.partitions:
            alone.append(fresh.call(measure_partition, subject, partition.index))
            done(steps + 2 + partition.index)
        whole = fresh.call(measure_whole, subject)
        done(2 * steps + 2)
    partitions = tuple(
        replace(partition, measured_bytes=measured)
        for partition, measured in zip(plan.partitions, alone, strict=True)
    )
    return replace(plan, partitions=partitions, measured_bytes=whole)


def step_count(plan: Plan) -> int:
    """Gives how many steps `measure_plan` takes: encrypting, recording, measuring."""
    return 2 * len(plan.partitions) + 2


def _subject(folder: ModelFolder, scratch: Path, done: Callable[[int], None]) -> Subject:
    keys = BundleKeys(secrets.token_bytes(KEY_BYTES), Ed25519PrivateKey.generate())
    write_bundle(folder, keys, scratch / "bundle", done)
    owner = keys.owner.public_key().public_bytes_raw()
    return Subject(folder.plan, scratch / "bundle", keys.model_key, owner, scratch)


class _Fresh:
    """Calls functions in processes that have run nothing before."""

    def __init__(self) -> None:
        self._context = get_context("forkserver")
        self._context.set_forkserver_preload([_CHILD])

    def call(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        receiver, sender = self._context.Pipe(duplex=False)
        process = self._context.Process(target=_work, args=(sender, work, args, kwargs))
        with receiver, started(process):
            sender.close()
            try:
                worked, value = receiver.recv()
            except EOFError as error:
                raise BenchmarkError(
                    "the measuring process was killed; too little memory is the usual reason"
                ) from error
        if not worked:
            raise BenchmarkError(f"a partition can't be measured: {value}")
        found: T = value
        return found


def _work(
    sender: Connection,
    work: Callable[..., object],
    args: tuple[object, ...],
    kwargs: dict[str, object],
) -> None:
    try:
        sender.send((True, work(*args, **kwargs)))
    except Exception as error:  # whatever it is, it would be lost with the process
        sender.send((False, f"{type(error).__name__}: {error}"))
