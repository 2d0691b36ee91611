"""What onnxruntime's CPU kernels do with memory beside their outputs, for the memory model.

Two things matter: whether an operator's output may take over its input's
memory, and what the kernel allocates for the time it runs. Both were read off
every allocation of single operators in onnxruntime 1.31.1 (weight prepacking
off, float32, one and two threads): the calls of `posix_memalign` and `free` with
the arena off. `tools/partition.py --measure` finds out whether they still hold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Final

import onnx_ir as ir

from app.limits import KIB

Shape = tuple[int, ...]
ShapeOf = Callable[[ir.Value], Shape | None]
"""Gives a value's shape with symbolic dimensions as planned, or None when it isn't known."""

_FLOAT_BYTES: Final = 4

_SEGMENT_BYTES: Final = 64 * KIB
"""A thread's share of the unfolded input in mlas/lib/convolve.cpp."""

_FLASH_BYTES: Final = 100 * KIB
"""A thread's share of MultiHeadAttention's scores."""

_PANEL_BYTES: Final = 48 * KIB
"""A thread's share of a quantised matrix product's input."""

_IN_PLACE: Final = frozenset(
    [
        "Relu",
        "Sigmoid",
        "Tanh",
        "Clip",
        "LeakyRelu",
        "Elu",
        "Selu",
        "Celu",
        "HardSigmoid",
        "Softplus",
        "Softsign",
        "ThresholdedRelu",
        "Softmax",
        "LogSoftmax",
        "Identity",
        "Cast",
        "Reshape",
        "Flatten",
        "Squeeze",
        "Unsqueeze",
    ]
)
"""Operators whose output may take over the first input's memory."""

_COPIES: Final[Mapping[str, int]] = {
    "HardSwish": 1,
    "Mish": 1,
    "Swish": 1,
    "FastGelu": 1,
    "BiasGelu": 1,
    "Where": 2,
    "MeanVarianceNormalization": 2,
    "GroupNormalization": 3,
}
"""Operators that need so many tensors as large as their output."""


@dataclass(frozen=True, slots=True)
class Workspace:
    """What a kernel allocates for the time it runs.

    Attributes:
        bytes: once.
        lane_bytes: for each thread.
    """

    bytes: int = 0
    lane_bytes: int = 0


def overwrites(node: ir.Node) -> tuple[str, ...]:
    """Gives the inputs whose memory the first output may take over."""
    if node.op_type in _IN_PLACE:
        candidates = list(node.inputs[:1])
    elif node.op_type in ("FusedConv", "Conv"):
        # The fused addition comes fourth; a plain Conv has three inputs at most.
        candidates = list(node.inputs[3:4])
    else:
        return ()
    return tuple(value.name or "" for value in candidates if value is not None)


def workspace(node: ir.Node, shape_of: ShapeOf) -> Workspace:
    """Predicts what a node's kernel allocates; nothing where a shape isn't known.

    Args:
        node: of a normalised model.
        shape_of: gives the shapes that the plan is made for.
    """
    rule = _RULES.get(node.op_type)
    need = rule(node, shape_of) if rule else _copies(node, shape_of)
    if not any(value is not None and value.dtype == ir.DataType.FLOAT16 for value in node.inputs):
        return need
    # Kernels without a float16 form get all their tensors as float32.
    tensors = [value for value in (*node.inputs, *node.outputs) if value is not None]
    widened = _FLOAT_BYTES * sum(_elements(value, shape_of) for value in tensors)
    return Workspace(need.bytes + widened, need.lane_bytes)


def _copies(node: ir.Node, shape_of: ShapeOf) -> Workspace:
    count = _COPIES.get(node.op_type, 0)
    return Workspace(count * _output_bytes(node, shape_of)) if count else Workspace()


def _elements(value: ir.Value | None, shape_of: ShapeOf) -> int:
    shape = shape_of(value) if value is not None else None
    return prod(shape) if shape is not None else 0


def _output_bytes(node: ir.Node, shape_of: ShapeOf) -> int:
    return _FLOAT_BYTES * _elements(node.outputs[0], shape_of)


def _shape(node: ir.Node, place: int, shape_of: ShapeOf) -> Shape:
    """An input's shape; empty when there is no such input or its shape isn't known."""
    value = node.inputs[place] if place < len(node.inputs) else None
    return (shape_of(value) or ()) if value is not None else ()


def _integers(node: ir.Node, name: str) -> tuple[int, ...]:
    attribute = node.attributes.get(name)
    return tuple(attribute.as_ints()) if attribute is not None else ()


def _integer(node: ir.Node, name: str, default: int) -> int:
    attribute = node.attributes.get(name)
    return attribute.as_int() if attribute is not None else default


def _unfolded_elements(node: ir.Node, weight: Shape, shape_of: ShapeOf) -> int:
    """Elements of a convolution's unfolded input: a column for every output position."""
    output = shape_of(node.outputs[0]) or ()
    return prod(weight[1:]) * prod(output[2:])


def _convolution(node: ir.Node, shape_of: ShapeOf) -> Workspace:
    """One matrix product over the input, unfolded whole or in segments.

    A domain of its own means a blocked kernel, which needs nothing.
    """
    weight, output = _shape(node, 1, shape_of), shape_of(node.outputs[0]) or ()
    if node.domain not in ("", "com.microsoft") or len(weight) < 3:
        return Workspace()
    plain = not any(_integers(node, "pads")) and set(_integers(node, "strides")) <= {1}
    if plain and prod(weight[2:]) == 1:
        return Workspace()
    filters = weight[0] // _integer(node, "group", 1)
    if filters <= prod(output[2:]):
        return Workspace(lane_bytes=_SEGMENT_BYTES)
    return Workspace(_FLOAT_BYTES * _unfolded_elements(node, weight, shape_of))


def _transposed_convolution(node: ir.Node, shape_of: ShapeOf) -> Workspace:
    taken, weight = _shape(node, 0, shape_of), _shape(node, 1, shape_of)
    return Workspace(_FLOAT_BYTES * prod(weight[1:]) * prod(taken[2:])) if weight else Workspace()


def _integer_convolution(node: ir.Node, shape_of: ShapeOf) -> Workspace:
    weight = _shape(node, 1, shape_of)
    return Workspace(_unfolded_elements(node, weight, shape_of)) if weight else Workspace()


def _quantised_convolution(node: ir.Node, shape_of: ShapeOf) -> Workspace:
    """Channels go last: copies of input, output and weight, sums in 32 bits, the unfolded input."""
    weight = _shape(node, 3, shape_of)
    if not weight:
        return Workspace()
    made, taken = _elements(node.outputs[0], shape_of), _elements(node.inputs[0], shape_of)
    unfolded = _unfolded_elements(node, weight, shape_of)
    return Workspace(taken + made + _FLOAT_BYTES * made + prod(weight) + unfolded, _PANEL_BYTES)


def _quantised_product(node: ir.Node, shape_of: ShapeOf) -> Workspace:
    """The input in 8 bits, or the sums in 32."""
    return Workspace(
        _elements(node.inputs[0], shape_of) + _output_bytes(node, shape_of), _PANEL_BYTES
    )


def _response_normalization(node: ir.Node, shape_of: ShapeOf) -> Workspace:
    """Scales, and one image's squares with `size` - 1 more channels around."""
    shape = shape_of(node.outputs[0]) or ()
    if len(shape) < 2:
        return Workspace()
    channels = shape[1] + _integer(node, "size", 1) - 1
    return Workspace(_FLOAT_BYTES * (prod(shape) + channels * prod(shape[2:])))


def _softmax(node: ir.Node, shape_of: ShapeOf) -> Workspace:
    """Along an inner axis it is transposed there and back."""
    shape = shape_of(node.outputs[0]) or ()
    axis = _integer(node, "axis", -1)
    inner = bool(shape) and axis % len(shape) != len(shape) - 1
    return Workspace(2 * _FLOAT_BYTES * prod(shape)) if inner else Workspace()


def _recurrent(node: ir.Node, shape_of: ShapeOf) -> Workspace:
    """The gates of all steps: the input's product with W."""
    taken, weight = _shape(node, 0, shape_of), _shape(node, 1, shape_of)
    if len(taken) < 3 or len(weight) < 3:
        return Workspace()
    return Workspace(_FLOAT_BYTES * taken[0] * taken[1] * weight[0] * weight[1])


def _scores_bytes(node: ir.Node, shape_of: ShapeOf, heads: int) -> int:
    """Every position of a sequence against every other, for every head."""
    taken = _shape(node, 0, shape_of)
    if len(taken) < 3:
        return 0
    return _FLOAT_BYTES * taken[0] * heads * taken[-2] ** 2


def _fused_attention(node: ir.Node, shape_of: ShapeOf) -> Workspace:
    """Query, key and value, their result before the heads are joined, and the scores."""
    scores = _scores_bytes(node, shape_of, _integer(node, "num_heads", 1))
    return Workspace(4 * _output_bytes(node, shape_of) + scores)


def _multi_head_attention(node: ir.Node, shape_of: ShapeOf) -> Workspace:
    """With a mask or a past the scores are whole, without them a thread has a few rows."""
    copies = 3 * _output_bytes(node, shape_of)
    if any(value is not None for value in node.inputs[3:]):
        scores = _scores_bytes(node, shape_of, _integer(node, "num_heads", 1))
        return Workspace(copies + scores, _FLASH_BYTES)
    return Workspace(copies, _FLASH_BYTES)


def _attention(node: ir.Node, shape_of: ShapeOf) -> Workspace:
    if node.domain == "com.microsoft":
        return _fused_attention(node, shape_of)
    taken = _shape(node, 0, shape_of)
    heads = taken[1] if len(taken) == 4 else _integer(node, "q_num_heads", 1)
    return Workspace(_scores_bytes(node, shape_of, heads))


def _einsum(node: ir.Node, shape_of: ShapeOf) -> Workspace:
    """Its operands are transposed and broadcast before they are multiplied."""
    taken = sum(_elements(value, shape_of) for value in node.inputs)
    return Workspace(_FLOAT_BYTES * 2 * taken + _output_bytes(node, shape_of))


_RULES: Final[Mapping[str, Callable[[ir.Node, ShapeOf], Workspace]]] = {
    "Conv": _convolution,
    "FusedConv": _convolution,
    "ConvTranspose": _transposed_convolution,
    "ConvInteger": _integer_convolution,
    "QLinearConv": _quantised_convolution,
    "MatMulInteger": _quantised_product,
    "QLinearMatMul": _quantised_product,
    "DynamicQuantizeMatMul": _quantised_product,
    "LRN": _response_normalization,
    "Softmax": _softmax,
    "LogSoftmax": _softmax,
    "LSTM": _recurrent,
    "GRU": _recurrent,
    "RNN": _recurrent,
    "Attention": _attention,
    "MultiHeadAttention": _multi_head_attention,
    "Einsum": _einsum,
}
