"""Stands in for a bundle and for onnxruntime: partitions in memory, an engine that records."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.card import ModelCard, Preprocessing
from app.loading import Load
from app.manifest import PartitionLayout
from app.tensors import Array, TensorSpec

Compute = Callable[[Mapping[str, Array]], dict[str, Array]]
Event = tuple[str, int]


def spec(name: str, *shape: int | str, dtype: str = "float32") -> TensorSpec:
    """Describes a tensor."""
    return TensorSpec(name, dtype, shape)


def layout(
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    release: Sequence[str] = (),
    activation_bytes: int = 0,
    *,
    boundary_bytes: int = 0,
    session_bytes: int = 0,
    run_ns: int = 0,
) -> PartitionLayout:
    """Describes a partition without weights, planned with a batch of one."""
    return PartitionLayout(
        tuple(inputs),
        tuple(outputs),
        tuple(release),
        (),
        input_bytes=sum(each.bytes_with({}) or 0 for each in inputs),
        boundary_bytes=boundary_bytes,
        activation_bytes=activation_bytes,
        session_bytes=session_bytes,
        run_ns=run_ns,
    )


@dataclass
class FakePartition:
    """One partition of a `MemoryReader`.

    Attributes:
        layout: its wiring.
        weights: what reading its weights gives.
        compute: what running it gives; by default zeros of the outputs' shapes.
        read_error: raised instead of giving its weights.
    """

    layout: PartitionLayout
    weights: bytes = b""
    compute: Compute | None = None
    read_error: Exception | None = None

    def run(self, values: Mapping[str, Array]) -> dict[str, Array]:
        """Computes the outputs."""
        if self.compute is not None:
            return self.compute(values)
        return {
            each.name: np.zeros([d if isinstance(d, int) else 1 for d in each.shape or ()], "f4")
            for each in self.layout.outputs
        }


@dataclass
class MemoryReader:
    """A bundle in memory.

    Attributes:
        partitions: what it holds.
        events: what was asked of it and of its engine, in order.
    """

    partitions: list[FakePartition]
    events: list[Event] = field(default_factory=list)
    scratch_bytes: int = 0
    lanes: int = 1

    @property
    def partition_count(self) -> int:
        """See `app.runner.Reader`."""
        return len(self.partitions)

    def weights_bytes(self, partition: int) -> int:
        """See `app.runner.Reader`."""
        return len(self.partitions[partition].weights)

    def read_structure(self, partition: int) -> tuple[PartitionLayout, bytes]:
        """See `app.runner.Reader`; the graph is the partition's number."""
        self.events.append(("structure", partition))
        return self.partitions[partition].layout, str(partition).encode()

    def load_weights(self, partition: int, into: NDArray[np.uint8]) -> Load:
        """See `app.runner.Reader`."""
        return Load(OnePiece(lambda: self._fill(partition, into)))

    def _fill(self, partition: int, into: NDArray[np.uint8]) -> None:
        self.events.append(("weights", partition))
        found = self.partitions[partition]
        if found.read_error is not None:
            raise found.read_error
        into[: len(found.weights)] = np.frombuffer(found.weights, np.uint8)


@dataclass
class OnePiece:
    """A load of one piece.

    Attributes:
        work: what fills it.
    """

    work: Callable[[], None]
    pieces: int = 1

    def fill(self, piece: int) -> None:
        """See `app.loading.Source`."""
        self.work()

    def close(self, *, complete: bool) -> None:
        """See `app.loading.Source`; nothing is open."""


@dataclass
class RecordingEngine:
    """Runs what the reader's partitions say, and notes it among the reader's events.

    Attributes:
        reader: gives the partitions and keeps the events.
        seen_weights: the weights buffer's content at every run.
    """

    reader: MemoryReader
    seen_weights: list[bytes] = field(default_factory=list)

    def open(self, graph: bytes, layout: PartitionLayout) -> RecordingSession:
        """See `app.runner.Engine`."""
        self.reader.events.append(("open", int(graph)))
        return RecordingSession(self, int(graph))

    def wrap(self, array: Array) -> Any:
        """See `app.runner.Engine`."""
        return array

    def unwrap(self, value: Any) -> Array:
        """See `app.runner.Engine`."""
        array: Array = value
        return array

    def size_bytes(self, value: Any) -> int:
        """See `app.runner.Engine`."""
        return int(value.nbytes)


@dataclass
class RecordingSession:
    """One partition of a `RecordingEngine`."""

    engine: RecordingEngine
    partition: int

    def run(self, values: Mapping[str, Any], weights: NDArray[np.uint8]) -> dict[str, Any]:
        """See `app.runner.Session`."""
        self.engine.reader.events.append(("run", self.partition))
        self.engine.seen_weights.append(weights.tobytes())
        return self.engine.reader.partitions[self.partition].run(values)


TENSOR_CARD = ModelCard(
    "Sums",
    "tensors",
    (),
    "logits",
    None,
    (spec("x", "batch", 4), spec("count", 1, dtype="int64")),
    (spec("y", "batch", 4),),
)
"""A model for the infer route."""

PICTURE_CARD = ModelCard(
    "Shades",
    "image-classification",
    ("dark", "light"),
    "logits",
    Preprocessing("NCHW", 1, 2, 2, "stretch", "nearest", 255.0, (0.0,), (1.0,), invert=False),
    (spec("image", "batch", 1, 2, 2),),
    (spec("scores", "batch", 2),),
)
"""A model for the classify route."""


def brightness(values: Mapping[str, Array]) -> dict[str, Array]:
    """Scores a picture's darkness and lightness."""
    light = values["image"].mean(axis=(1, 2, 3))
    return {"scores": np.stack([1 - light, light], axis=1)}


def plus_count(values: Mapping[str, Array]) -> dict[str, Array]:
    """Adds `count` to `x`."""
    return {"y": values["x"] + np.float32(values["count"][0])}
