"""What the planner knows of a graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from app.tensors import ITEM_BITS, TensorSpec


@dataclass(frozen=True, slots=True)
class NodeSummary:
    """One operator.

    Attributes:
        name: for people; made up from type and position when the model gives none.
        op_type: the operator's type.
        inputs: names of the values it reads, those captured by its subgraphs too.
        outputs: names of the values it makes.
        weights: names of the initializers it reads.
        operations: multiplications and additions of one run, as far as they are known.
        overwrites: inputs whose memory its first output may take over, the preferred one first.
        workspace_bytes: memory that its kernel takes for the time it runs.
        lane_bytes: the same for each thread, in addition.
    """

    name: str
    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weights: tuple[str, ...]
    operations: int = 0
    overwrites: tuple[str, ...] = ()
    workspace_bytes: int = 0
    lane_bytes: int = 0


@dataclass(frozen=True, slots=True)
class GraphSummary:
    """A checked graph in topological order.

    Attributes:
        nodes: the operators.
        values: description of every value that isn't an initializer, tensors only;
            a value that is missing here (a sequence, an optional) can't cross a cut.
        weight_bytes: size of every initializer.
        inputs, outputs: names of the model's inputs and outputs.
        dimensions: sizes to plan symbolic dimensions with; the others count as 1.
        observed_bytes: sizes seen in a run, for values that shape inference can't tell.
        observed_shapes: their shapes.
        seams: nodes that a tile begins with. A partition of several tiles holds the buffers of
            one for the next, so that it pays to cut here where memory is short.
        untiled: why operators with too many weights stayed whole, by name.
    """

    nodes: tuple[NodeSummary, ...]
    values: Mapping[str, TensorSpec]
    weight_bytes: Mapping[str, int]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    dimensions: Mapping[str, int]
    observed_bytes: Mapping[str, int] = field(default_factory=dict)
    observed_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    seams: tuple[int, ...] = ()
    untiled: Mapping[str, str] = field(default_factory=dict)

    def value_bytes(self, name: str) -> int:
        """Gives a value's size in bytes; 0 when shape inference couldn't tell it."""
        if name in self.observed_bytes:
            return self.observed_bytes[name]
        spec = self.values.get(name)
        return (spec.bytes_with(self.dimensions) or 0) if spec else 0

    def same_form(self, one: str, other: str) -> bool:
        """Says whether two values have the same known shape and equally large elements."""
        first, second = self.values.get(one), self.values.get(other)
        if first is None or second is None or not first.shape or not second.shape:
            return False
        if ITEM_BITS[first.dtype] != ITEM_BITS[second.dtype]:
            return False
        shapes = self.observed_shapes
        return shapes.get(one, first.shape) == shapes.get(other, second.shape)

    def for_threads(self, threads: int) -> GraphSummary:
        """Counts what every thread takes into the workspace of the operators."""
        nodes = tuple(
            replace(
                node,
                workspace_bytes=node.workspace_bytes + threads * node.lane_bytes,
                lane_bytes=0,
            )
            for node in self.nodes
        )
        return replace(self, nodes=nodes)

    def unsized(self) -> tuple[str, ...]:
        """Gives the values whose size isn't known, so that no plan counts them."""
        made = [name for node in self.nodes for name in node.outputs]
        return tuple(
            name
            for name in made
            if name not in self.observed_bytes
            and (name not in self.values or self.values[name].bytes_with(self.dimensions) is None)
        )
