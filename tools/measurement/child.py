"""What a measuring process does: run one partition, or all, and tell how far its memory grew.

Imported before it is asked anything, so that imports aren't in what it measures.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from numpy.typing import NDArray

from app.bundle import BundleReader, read_manifest
from app.engine import OrtEngine
from app.loading import Load
from app.manifest import PartitionLayout
from app.runner import Runner
from app.schedule import lanes
from app.tensors import Array
from tools.accuracy.readers import RecordingEngine
from tools.bench.memory import resident_bytes
from tools.bench.runner import request_for
from tools.planner.plan import Plan

_SAMPLE_S: Final = 0.001
_REQUESTS: Final = 3
"""Of the whole model: what one leaves behind in the allocator decides where the next one's lie."""

_SEED: Final = 1
_MOST_BYTES: Final = 1 << 50
"""A budget that never ends a measurement."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured.

    Attributes:
        plan: of the model.
        bundle: its encrypted partitions.
        model_key, owner: what opens it; made for this measurement, worth nothing after it.
        values: where the tensors between the partitions are kept.
    """

    plan: Plan
    bundle: Path
    model_key: bytes
    owner: bytes
    values: Path

    def engine(self) -> OrtEngine:
        """Makes the engine of a run as planned: with one thread, another loads beside it."""
        return OrtEngine(self.plan.threads)

    def reader(self) -> BundleReader:
        """Opens the bundle as the appliance does."""
        owner = Ed25519PublicKey.from_public_bytes(self.owner)
        manifest = read_manifest(self.bundle, owner, minimum_version=1)
        loading = lanes(each.weights_bytes for each in manifest.partitions)
        return BundleReader(self.bundle, manifest, self.model_key, lanes=loading)

    def requests(self) -> list[dict[str, Array]]:
        """Makes the requests of one batch, of the size that was planned."""
        sizes = dict(self.plan.dimensions)
        return [
            request_for(self.plan.inputs, sizes, _SEED + number)
            for number in range(self.plan.lock_step)
        ]


class OnePartition:
    """Gives the runner one partition of a bundle as if it were all."""

    def __init__(self, reader: BundleReader, index: int) -> None:
        self._reader = reader
        self._index = index
        self.partition_count = 1
        self.lanes = reader.lanes
        self.scratch_bytes = reader.scratch_bytes

    def weights_bytes(self, partition: int) -> int:
        """See `app.runner.Reader`."""
        return self._reader.weights_bytes(self._index + partition)

    def read_structure(self, partition: int) -> tuple[PartitionLayout, bytes]:
        """See `app.runner.Reader`."""
        layout, graph = self._reader.read_structure(self._index + partition)
        return replace(layout, release=()), graph

    def load_weights(self, partition: int, into: NDArray[np.uint8]) -> Load:
        """See `app.runner.Reader`."""
        return self._reader.load_weights(self._index + partition, into)


def record_values(subject: Subject) -> None:
    """Runs the model once and keeps what each partition reads."""
    engine = RecordingEngine()
    plan = subject.plan
    runner = Runner(
        subject.reader(), engine, _MOST_BYTES, plan.inputs, plan.outputs, overlap=plan.overlap
    )
    values: dict[str, Array] = dict(subject.requests()[0])
    runner.run(values)
    runner.close()
    for made in engine.recorded:
        values |= made
    for partition in plan.partitions:
        kept = {
            str(place): _plain(values[spec.name]) for place, spec in enumerate(partition.inputs)
        }
        np.savez(_values_path(subject, partition.index), **kept)  # type: ignore[arg-type]


def measure_partition(subject: Subject, index: int) -> int:
    """Gives how far memory grows while a partition is opened and run alone, in bytes."""
    partition = subject.plan.partitions[index]
    with np.load(_values_path(subject, index)) as kept:
        values = {spec.name: kept[str(place)] for place, spec in enumerate(partition.inputs)}
    with _growth() as growth:
        runner = Runner(
            OnePartition(subject.reader(), index),
            subject.engine(),
            _MOST_BYTES,
            partition.inputs,
            partition.outputs,
            overlap=subject.plan.overlap,
        )
        runner.run(values)
        runner.close()
    return growth[0]


def measure_whole(subject: Subject) -> int:
    """Gives how far memory grows while the model runs inside its budget, in bytes."""
    requests = subject.requests()
    plan = subject.plan
    with _growth() as growth:
        runner = Runner(
            subject.reader(),
            subject.engine(),
            plan.budget_bytes,
            plan.inputs,
            plan.outputs,
            lock_step=len(requests),
            overlap=plan.overlap,
        )
        held = None
        for _ in range(_REQUESTS):
            # A caller may keep an answer while the next request runs.
            held = runner.run_batch(requests)
        runner.close()
    del held
    return growth[0]


@contextmanager
def _growth() -> Iterator[list[int]]:
    """Samples resident memory in a thread; the kernel's own peak would count library files too.

    Yields:
        A list that holds the growth in bytes when the block has ended.
    """
    before = resident_bytes()
    peak = [0]
    ended = threading.Event()

    def sample() -> None:
        while not ended.wait(_SAMPLE_S):
            peak[0] = max(peak[0], resident_bytes() - before)

    sampler = threading.Thread(target=sample, name="sampler")
    sampler.start()
    try:
        yield peak
    finally:
        peak[0] = max(peak[0], resident_bytes() - before)
        ended.set()
        sampler.join()


def _plain(array: Array) -> Array:
    """Strings as numpy writes them without pickling."""
    return array.astype(np.str_) if array.dtype.kind == "O" else array


def _values_path(subject: Subject, index: int) -> Path:
    return subject.values / f"{index}.npz"
