"""Tiles convolutions whose weights are too large: by groups, and by output channels in a group.

Every output channel is a sum of its own, so tiles compute the same bits. Widths
inside a group are multiples of 16, onnxruntime's widest block of channels. That
makes tiles of its blocked convolutions sound too: a blocked tensor lies in
memory as [N, C/block, H, W, block], so whole blocks of channels are one piece in it,
and the weight is ordered by blocks of output channels first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import onnx_ir as ir

from app.tensors import Array
from tools.graph.tiling.parts import (
    Replacement,
    Rule,
    StaysWholeError,
    constant_of,
    describe,
    even_ranges,
    input_of,
    integer,
    part_of,
    shape_of,
)

_BLOCK: Final = 16
_BLOCKED_DOMAIN: Final = "com.microsoft.nchwc"
_SUMMED_INPUT: Final = 3
"""Of onnxruntime's fused convolutions: a tensor that is added to the result."""

RULES: Final = (
    Rule("Conv", "weights", "groups, output channels", "bit-exact"),
    Rule("ConvTranspose", "weights", "groups, output channels", "bit-exact"),
    Rule("FusedConv", "weights", "groups, output channels", "bit-exact"),
    Rule(f"{_BLOCKED_DOMAIN}.Conv", "weights", "blocks of output channels", "bit-exact"),
)


@dataclass(frozen=True, slots=True)
class _Piece:
    """What one tile computes.

    Attributes:
        groups: the groups that it has a part of.
        channels: output channels of each; all of them when there are several groups.
    """

    groups: tuple[int, int]
    channels: tuple[int, int]


def tile_convolution(made: Replacement, largest_bytes: int) -> int:
    """Replaces a convolution by tiles; gives their number.

    Raises:
        StaysWholeError: when it can't be done.
    """
    form = _Form.of(made.node)
    pieces = form.pieces(largest_bytes)
    if len(pieces) < 2:
        raise StaysWholeError(f"{form.channels} output channels in a group are the least")
    tiles = [_tile(made, form, number, piece) for number, piece in enumerate(pieces)]
    made.finish(made.add("joined", "Concat", tiles, {"axis": 1}))
    return len(tiles)


@dataclass(frozen=True, slots=True)
class _Form:
    """How a convolution's weight is laid out.

    Attributes:
        weight: its content.
        groups: how many there are.
        channels: output channels of each.
        inputs: input channels of each.
        transposed: whether the weight's first axis counts input channels.
    """

    weight: Array
    groups: int
    channels: int
    inputs: int
    transposed: bool

    @classmethod
    def of(cls, node: ir.Node) -> _Form:
        tensor = constant_of(node, 1)
        if tensor is None or len(tensor.shape.numpy()) < 3:
            raise StaysWholeError("its weight isn't constant")
        bias = input_of(node, 2)
        if bias is not None and bias.const_value is None:
            raise StaysWholeError("its bias isn't constant")
        groups, shape = integer(node, "group", 1), shape_of(tensor)
        if node.domain == _BLOCKED_DOMAIN and groups != 1:
            raise StaysWholeError("the groups of a blocked convolution share blocks")
        if node.op_type == "ConvTranspose":
            return cls(tensor.numpy(), groups, shape[1], shape[0] // groups, True)
        return cls(tensor.numpy(), groups, shape[0] // groups, shape[1], False)

    def pieces(self, largest_bytes: int) -> list[_Piece]:
        group_bytes = self.weight.nbytes // self.groups
        if group_bytes <= largest_bytes:
            count = -(-self.groups // max(1, largest_bytes // group_bytes))
            ranges = even_ranges(self.groups, count)
            return [_Piece(groups, (0, self.channels)) for groups in ranges]
        channels = even_ranges(self.channels, -(-group_bytes // largest_bytes), _BLOCK, _BLOCK)
        return [_Piece((g, g + 1), each) for g in range(self.groups) for each in channels]

    def inputs_of(self, piece: _Piece) -> tuple[int, int]:
        """Gives the input channels that a piece reads."""
        start, stop = piece.groups
        return start * self.inputs, stop * self.inputs

    def outputs_of(self, piece: _Piece) -> tuple[int, int]:
        """Gives the output channels that it makes."""
        start, stop = piece.groups
        return start * self.channels + piece.channels[0], (
            (stop - 1) * self.channels + piece.channels[1]
        )

    def part(self, piece: _Piece) -> Array:
        """Gives its weight."""
        if self.transposed:
            return self.weight[slice(*self.inputs_of(piece)), slice(*piece.channels)]
        return self.weight[slice(*self.outputs_of(piece))]


def _tile(made: Replacement, form: _Form, number: int, piece: _Piece) -> ir.Value:
    node, label = made.node, f"tile {number}"
    first, weight, bias = node.inputs[0], node.inputs[1], input_of(node, 2)
    if first is None or weight is None:
        raise StaysWholeError("it has no input")
    start, stop = form.outputs_of(piece)
    if form.groups > 1:
        first = made.slice(f"{label} input", first, 1, *form.inputs_of(piece))
    inputs: list[ir.Value | None] = [first, part_of(made.graph, weight, number, form.part(piece))]
    summed = input_of(node, _SUMMED_INPUT)
    if bias is not None and bias.const_value is not None:
        values = bias.const_value.numpy()[start:stop]
        inputs.append(part_of(made.graph, bias, number, values))
    elif summed is not None:
        inputs.append(None)
    if summed is not None:
        inputs.append(made.slice(f"{label} summed", summed, 1, start, stop))
    group = piece.groups[1] - piece.groups[0]
    attributes = {**node.attributes, "group": group} if form.groups > 1 else node.attributes
    tile = made.add(label, node.op_type, inputs, attributes, node.domain)
    describe(tile, node.outputs[0], 1, stop - start)
    return tile
