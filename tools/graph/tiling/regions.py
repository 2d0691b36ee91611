"""Rewrites regions of a graph into tiles by rows, where activations are what doesn't fit."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from tools.graph.tiling.parts import describe, drop_unused, integers, slice_node, take_over
from tools.graph.tiling.region import Nodes, Step
from tools.graph.tiling.rows import Rows, size
from tools.graph.tiling.search import Region, choose
from tools.planner.liveness import Liveness
from tools.planner.summary import GraphSummary


def tile_regions(model: ir.Model, summary: GraphSummary, room_bytes: int) -> tuple[int, ...]:
    """Tiles by rows until boundary tensors and activations fit, or nothing more helps.

    Every tile is made of operators that compute a row alone as they compute it among all
    rows, so results are equal bit for bit.

    Args:
        model: what was summarised; changed in place.
        summary: gives the sizes of its values.
        room_bytes: for boundary tensors and activations.

    Returns:
        The places in the new graph at which a tile begins, and those after the last tiles; none
        when nothing was tiled.
    """
    nodes = Nodes(model.graph, Liveness(summary))
    return apply_regions(model.graph, nodes, choose(nodes, room_bytes).regions)


def apply_regions(graph: ir.Graph, nodes: Nodes, regions: Sequence[Region]) -> tuple[int, ...]:
    """Puts tiles in the place of regions, and removes what nobody reads any more.

    Returns:
        What `tile_regions` does.
    """
    emissions = [_Emission(graph, nodes, each, number) for number, each in enumerate(regions)]
    for emission in emissions:
        emission.emit()
    for node in reversed(nodes.nodes):
        if any(value.uses() or value.is_graph_output() for value in node.outputs):
            continue
        inputs = [value for value in node.inputs if value is not None]
        graph.remove(node, safe=True)
        drop_unused(graph, inputs)
    first = {node for emission in emissions for node in emission.first_nodes}
    return tuple(place for place, node in enumerate(graph) if node in first and place)


class _Emission:
    """Adds one region's nodes."""

    def __init__(self, graph: ir.Graph, nodes: Nodes, region: Region, number: int) -> None:
        self._graph, self._nodes, self._region, self._number = graph, nodes, region, number
        self._place = nodes.nodes[region.start]
        self._label = ""
        self._made: dict[str, tuple[ir.Value, Rows]] = {}
        self._slices: dict[tuple[str, Rows], ir.Value] = {}
        self._begins = False
        self.first_nodes: list[ir.Node] = []

    def emit(self) -> None:
        """Adds all tiles, then what puts their rows together."""
        pieces: dict[str, list[ir.Value]] = {name: [] for name, _ in self._region.axes}
        for tile, steps in enumerate(self._region.tiles):
            self._label = f"rows {self._number}.{tile}"
            self._made.clear()
            self._slices.clear()
            self._begins = True
            for step in steps:
                self._add(step)
            for name, values in pieces.items():
                values.append(self._made[name][0])
        self._begins = True
        for name, axis in self._region.axes:
            self._join(name, axis, pieces[name])

    def _add(self, step: Step) -> None:
        node, form = self._nodes.nodes[step.node], step.form
        inputs = [
            self._input(value, name, need)
            for value, name, need in zip(
                node.inputs, self._nodes.inputs[step.node], form.needs, strict=True
            )
        ]
        for index, numbers in form.constants.items():
            inputs[index] = integers(self._graph, numbers)
        kept = {k: v for k, v in node.attributes.items() if k not in form.removed}
        attributes = {**kept, **form.attributes}
        name = self._nodes.outputs[step.node]
        tile = self._insert(f"{node.name} {self._label}", node, inputs, attributes)
        tile.name = f"{name} {self._label}"
        describe(tile, self._nodes.values[name], step.rows.axis, len(step.rows))
        self._made[name] = (tile, step.rows)

    def _insert(
        self,
        name: str,
        node: ir.Node,
        inputs: Sequence[ir.Value | None],
        attributes: dict[str, object],
    ) -> ir.Value:
        made = ir.node(
            node.op_type,
            inputs,
            attributes=attributes,  # type: ignore[arg-type]
            domain=node.domain,
            name=name,
        )
        return self._placed(made)

    def _placed(self, node: ir.Node) -> ir.Value:
        self._graph.insert_before(self._place, [node])
        if self._begins:
            self.first_nodes.append(node)
            self._begins = False
        return node.outputs[0]

    def _input(self, value: ir.Value | None, name: str, need: Rows | None) -> ir.Value | None:
        """Gives an input, or the rows of it that are needed."""
        if not name or value is None:
            return value if need is None or value is None else self._weight_rows(value, need)
        source, start = value, 0
        if name in self._made:
            source, rows = self._made[name]
            start = rows.start
        if need is None or len(need) == size(source, need.axis):
            return source
        key = (name, need)
        if key not in self._slices:
            moved = Rows(need.axis, need.start - start, need.stop - start)
            self._slices[key] = self._slice(source, moved, f"{name} {self._label}")
        return self._slices[key]

    def _weight_rows(self, value: ir.Value, need: Rows) -> ir.Value:
        if len(need) == size(value, need.axis):
            return value
        return self._slice(value, need, f"{value.name} {self._label}")

    def _slice(self, source: ir.Value, rows: Rows, name: str) -> ir.Value:
        opset = self._graph.opset_imports.get("", 0)
        part = (rows.axis, rows.start, rows.stop)
        node = slice_node(self._graph, opset, source, part)
        node.name = node.outputs[0].name = f"{name} {rows.start}:{rows.stop}"
        return self._placed(node)

    def _join(self, name: str, axis: int, pieces: Sequence[ir.Value]) -> None:
        old = self._nodes.values[name]
        node = ir.node("Concat", pieces, attributes={"axis": axis}, name=f"{name} rows joined")
        take_over(old, node.outputs[0])
        self._placed(node)
        ir.convenience.replace_all_uses_with(old, node.outputs[0], replace_graph_outputs=True)
        self._nodes.values[name] = node.outputs[0]
