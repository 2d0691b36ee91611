"""Tiles lookup tables that are too large: by rows.

Every part looks up every index, moved to its own rows and held inside them; a
mask then takes each row from the part that has it. Rows are copied, never
computed with, so the result is equal bit for bit. An index outside the table is
held inside it here, where the operator alone would fail.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import onnx_ir as ir

from app.tensors import Array
from tools.graph.tiling.parts import (
    Replacement,
    Rule,
    StaysWholeError,
    constant_of,
    initializer,
    input_of,
    integer,
)

_LEAST_OPSET: Final = 13
"""From here on Min and Max take int64, and Unsqueeze its axes as an input."""

RULES: Final = (Rule("Gather", "weights", "rows of the table", "bit-exact"),)


def tile_table(made: Replacement, largest_bytes: int) -> int:
    """Replaces a Gather by Gathers from parts of its table; gives their number.

    Raises:
        StaysWholeError: when it can't be done.
    """
    table, index = constant_of(made.node, 0), input_of(made.node, 1)
    if table is None or index is None:
        raise StaysWholeError("its table isn't constant")
    if integer(made.node, "axis", 0) != 0:
        raise StaysWholeError("it doesn't look up rows")
    if made.opset < _LEAST_OPSET:
        raise StaysWholeError(f"its opset {made.opset} is below {_LEAST_OPSET}")
    rows = table.numpy()
    height = max(1, largest_bytes // (table.nbytes // len(rows)))
    starts = range(0, len(rows), height)
    parts = _Parts(made)
    wrapped = parts.wrapped(index, len(rows))
    result = parts.looked_up(wrapped, 0, rows[:height])
    for start in starts[1:]:
        found = parts.looked_up(wrapped, start, rows[start : start + height])
        is_here = parts.mask(wrapped, start, rank=rows.ndim - 1)
        result = parts.add("Where", is_here, found, result)
    made.finish(result)
    return len(starts)


class _Parts:
    """Adds the nodes of one lookup."""

    def __init__(self, made: Replacement) -> None:
        self._made = made
        self._count = 0

    def add(self, op_type: str, *inputs: ir.Value, **attributes: int) -> ir.Value:
        """Adds a node."""
        label = f"part {len(self._made.nodes)}"
        return self._made.add(label, op_type, inputs, attributes)

    def constant(self, array: Array) -> ir.Value:
        """Adds an initializer."""
        self._count += 1
        name = f"{self._made.node.name} constant {self._count}"
        return initializer(self._made.graph, name, array)

    def number(self, value: int) -> ir.Value:
        """Adds an int64 scalar."""
        return self.constant(np.array(value, dtype=np.int64))

    def wrapped(self, index: ir.Value, rows: int) -> ir.Value:
        """Gives the indices as int64 from 0; negative ones count from the end."""
        wide = self.add("Cast", index, to=ir.DataType.INT64.value)
        from_end = self.add("Add", wide, self.number(rows))
        return self.add("Where", self.add("Less", wide, self.number(0)), from_end, wide)

    def looked_up(self, index: ir.Value, start: int, part: Array) -> ir.Value:
        """Looks every index up in one part."""
        moved = self.add("Sub", index, self.number(start))
        above = self.add("Max", moved, self.number(0))
        inside = self.add("Min", above, self.number(len(part) - 1))
        return self.add("Gather", self.constant(part), inside, axis=0)

    def mask(self, index: ir.Value, start: int, rank: int) -> ir.Value:
        """Says for every index whether it is at or after a part's start, shaped like rows."""
        found = self.add("GreaterOrEqual", index, self.number(start))
        axes = np.arange(-rank, 0, dtype=np.int64)
        return self.add("Unsqueeze", found, self.constant(axes)) if rank else found
