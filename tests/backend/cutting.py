"""Cuts a model wherever it can be cut and runs the pieces, all in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from app.engine import OrtEngine
from app.loading import Load
from app.manifest import PartitionLayout
from app.runner import Runner
from app.tensors import Array
from tests.fakes import OnePiece
from tools.bundling.writer import layout_of
from tools.graph.extract import extract_partition
from tools.graph.load import Model
from tools.graph.structure import Structure, separate_model
from tools.planner.liveness import Liveness
from tools.planner.plan import Partition
from tools.planner.planner import plan_for_count
from tools.planner.summary import GraphSummary

BUDGET_BYTES = 1 << 30
"""Nothing here is about memory."""


class CutModel:
    """A model that isn't optimised, and the ways to cut it.

    A way to cut is node indices, from 0 to the number of nodes.

    Args:
        model: normalised.
        summary: its description.

    Attributes:
        everywhere: the way that cuts at every place where a cut is legal.
    """

    def __init__(self, model: Model, summary: GraphSummary) -> None:
        self._model = model
        self._live = Liveness(summary)
        self._plan = plan_for_count(summary, 1)
        self.everywhere = (0, *(stop for _, stop in self._live.stretches()))

    def single_cuts(self) -> list[tuple[int, ...]]:
        """Gives every way to cut once, if that isn't everywhere already."""
        if len(self.everywhere) <= 3:
            return []
        return [(0, place, self.everywhere[-1]) for place in self.everywhere[1:-1]]

    def run(self, way: Sequence[int], inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Runs the partitions that a way makes, through the runner that is shipped."""
        reader = _MemoryReader(list(self._partitions(way)))
        runner = Runner(
            reader,
            OrtEngine(),
            BUDGET_BYTES,
            self._plan.inputs,
            self._plan.outputs,
            overlap=False,
        )
        try:
            return runner.run(inputs).outputs
        finally:
            runner.close()

    def _partitions(self, way: Sequence[int]) -> Iterator[_Partition]:
        for index, (start, stop) in enumerate(pairwise(way)):
            partition = self._partition(index, start, stop)
            extracted = extract_partition(self._model, partition)
            structure = separate_model(
                extracted,
                [spec.name for spec in partition.inputs],
                [spec.name for spec in partition.outputs],
            )
            yield _Partition(layout_of(partition, structure), structure)

    def _partition(self, index: int, start: int, stop: int) -> Partition:
        live, values = self._live, self._live.graph.values
        return replace(
            self._plan.partitions[0],
            index=index,
            start=start,
            stop=stop,
            inputs=tuple(values[name] for name in live.inputs(start, stop)),
            outputs=tuple(values[name] for name in live.outputs(start, stop)),
            release=tuple(live.released(start, stop)),
            input_bytes=0,
            session_bytes=0,
        )


@dataclass(frozen=True)
class _Partition:
    layout: PartitionLayout
    structure: Structure


@dataclass(frozen=True)
class _MemoryReader:
    """See `app.runner.Reader`."""

    partitions: Sequence[_Partition]
    scratch_bytes: int = 0
    lanes: int = 1

    @property
    def partition_count(self) -> int:
        return len(self.partitions)

    def weights_bytes(self, partition: int) -> int:
        return self.partitions[partition].structure.weights_bytes

    def read_structure(self, partition: int) -> tuple[PartitionLayout, bytes]:
        found = self.partitions[partition]
        return found.layout, found.structure.graph

    def load_weights(self, partition: int, into: NDArray[np.uint8]) -> Load:
        structure = self.partitions[partition].structure
        return Load(OnePiece(lambda: structure.fill(into)))
