"""What the planner knows of a graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from app.tensors import TensorSpec


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
    """

    name: str
    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weights: tuple[str, ...]
    operations: int = 0


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
    """

    nodes: tuple[NodeSummary, ...]
    values: Mapping[str, TensorSpec]
    weight_bytes: Mapping[str, int]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    dimensions: Mapping[str, int]
    observed_bytes: Mapping[str, int] = field(default_factory=dict)

    def value_bytes(self, name: str) -> int:
        """Gives a value's size in bytes; 0 when shape inference couldn't tell it."""
        if name in self.observed_bytes:
            return self.observed_bytes[name]
        spec = self.values.get(name)
        return (spec.bytes_with(self.dimensions) or 0) if spec else 0

    def unsized(self) -> tuple[str, ...]:
        """Gives the values whose size isn't known, so that no plan counts them."""
        made = [name for node in self.nodes for name in node.outputs]
        return tuple(
            name
            for name in made
            if name not in self.observed_bytes
            and (name not in self.values or self.values[name].bytes_with(self.dimensions) is None)
        )
