"""Readers and an engine for checking: what the runner runs, seen from a host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.engine import OrtEngine
from app.loading import Load
from app.manifest import PartitionLayout
from app.runner import Session
from app.tensors import Array
from tools.bundling.writer import layout_of, partition_structure
from tools.graph.structure import Structure
from tools.model_folder import ModelFolder


class FolderReader:
    """Gives the runner the partitions of a model's folder, neither optimised nor encrypted."""

    def __init__(self, folder: ModelFolder) -> None:
        self._plan = folder.plan
        self._structures = [
            partition_structure(folder, partition) for partition in folder.plan.partitions
        ]

    @property
    def partition_count(self) -> int:
        """See `app.runner.Reader`."""
        return len(self._structures)

    @property
    def lanes(self) -> int:
        """See `app.runner.Reader`."""
        return 1

    @property
    def scratch_bytes(self) -> int:
        """See `app.runner.Reader`."""
        return 0

    def weights_bytes(self, partition: int) -> int:
        """See `app.runner.Reader`."""
        return self._structures[partition].weights_bytes

    def read_structure(self, partition: int) -> tuple[PartitionLayout, bytes]:
        """See `app.runner.Reader`."""
        structure = self._structures[partition]
        return layout_of(self._plan.partitions[partition], structure), structure.graph

    def load_weights(self, partition: int, into: NDArray[np.uint8]) -> Load:
        """See `app.runner.Reader`."""
        return Load(_WholeWeights(self._structures[partition], into))


@dataclass(frozen=True, slots=True)
class _WholeWeights:
    """A partition's weights as a load of one piece."""

    structure: Structure
    into: NDArray[np.uint8]
    pieces: int = 1

    def fill(self, _piece: int) -> None:
        self.structure.fill(self.into)

    def close(self, *, complete: bool) -> None:
        """Nothing is open."""


class RecordingEngine(OrtEngine):
    """Keeps a copy of every partition's outputs.

    Attributes:
        recorded: outputs by partition, in the order of execution.
    """

    def __init__(self) -> None:
        super().__init__()
        self.recorded: list[dict[str, Array]] = []

    def open(self, graph: bytes, layout: PartitionLayout) -> Session:  # type: ignore[override]
        """Opens a partition whose outputs are kept."""
        return _RecordingSession(super().open(graph, layout), self)


class _RecordingSession:
    def __init__(self, session: Session, engine: RecordingEngine) -> None:
        self._session = session
        self._engine = engine

    def run(self, values: Mapping[str, Any], weights: NDArray[np.uint8]) -> dict[str, Any]:
        outputs = self._session.run(values, weights)
        kept = {name: self._engine.unwrap(value).copy() for name, value in outputs.items()}
        self._engine.recorded.append(kept)
        return outputs
