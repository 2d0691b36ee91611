"""Finds out before the first request that a plan's partitions don't fit together."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from app.errors import ExecutionError
from app.manifest import PartitionLayout
from app.tensors import TensorSpec


def check_wiring(
    inputs: Iterable[TensorSpec],
    layouts: Sequence[PartitionLayout],
    outputs: Iterable[TensorSpec],
) -> None:
    """Follows the tensors from the model's inputs to its outputs.

    Raises:
        ExecutionError: a partition reads or releases, or the model gives, what isn't there by then.
    """
    there = {spec.name for spec in inputs}
    for index, layout in enumerate(layouts):
        _require(there, (spec.name for spec in layout.inputs), index)
        there |= {spec.name for spec in layout.outputs}
        for name in layout.release:
            _require(there, [name], index)
            there.remove(name)
    _require(there, (spec.name for spec in outputs), len(layouts) - 1)


def _require(there: Collection[str], names: Iterable[str], partition: int) -> None:
    missing = sorted(set(names).difference(there))
    if missing:
        raise ExecutionError(partition, "load", f"needs {missing[:3]}, which isn't there by then")
