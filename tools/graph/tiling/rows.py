"""Says, for some rows of an operator's output, which rows of its inputs they need.

"Rows" are positions along one axis: picture rows of a convolution, positions of a
sequence. Every form here computes a row from the rows that it names alone, in
the way the whole operator does; operators of other types have no form.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Final

import onnx_ir as ir

from tools.graph.tiling.parts import Rule, constant_of, input_of, integer, shape_of

_KERNEL_COLUMNS: Final = 64
"""With this many columns or fewer and more products in a sum, onnxruntime's matrix kernel takes
longer panels, so that sums are rounded in other places. Found by comparing bits."""

_PANEL: Final = 128


@dataclass(frozen=True, slots=True)
class Rows:
    """Positions [start, stop) of a value's axis."""

    axis: int
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def joined(self, other: Rows) -> Rows | None:
        """Gives the stretch that holds both; None when they lie along different axes."""
        if other.axis != self.axis:
            return None
        return Rows(self.axis, min(self.start, other.start), max(self.stop, other.stop))


@dataclass(frozen=True, slots=True)
class Form:
    """How a tile of an operator is made.

    Attributes:
        needs: for each input the rows that it needs; None for all of it.
        attributes: those that differ from the whole operator's.
        constants: inputs that become other integers.
        removed: attributes that a tile doesn't have.
    """

    needs: Sequence[Rows | None]
    attributes: Mapping[str, object] = field(default_factory=dict)
    constants: Mapping[int, Sequence[int]] = field(default_factory=dict)
    removed: Sequence[str] = ()


Maker = Callable[[ir.Node, Rows], Form | None]


def form(node: ir.Node, rows: Rows) -> Form | None:
    """Gives the form of an operator's rows, None when they can't be made alone."""
    maker = _FORMS.get(key(node))
    outputs = [value for value in node.outputs if value.name]
    if maker is None or len(outputs) != 1:
        return None
    return maker(node, rows)


def has_form(node: ir.Node) -> bool:
    """Says whether operators of this type can be tiled by rows at all."""
    return key(node) in _FORMS


def key(node: ir.Node) -> str:
    """Names an operator's type, with its domain when that isn't ONNX's own."""
    return f"{node.domain}.{node.op_type}" if node.domain else node.op_type


def size(value: ir.Value | None, axis: int) -> int | None:
    """Gives a value's size along an axis, when it is one known number."""
    if value is None or value.shape is None or not 0 <= axis < len(value.shape):
        return None
    dim = value.shape[axis]
    return dim if isinstance(dim, int) else None


def rank(value: ir.Value | None) -> int:
    """Gives a value's rank, -1 when it isn't known."""
    return -1 if value is None or value.shape is None else len(value.shape)


def _elementwise(node: ir.Node, rows: Rows) -> Form | None:
    """Inputs are broadcast: what has one row, or none, is needed whole."""
    whole = size(node.outputs[0], rows.axis)
    if whole is None:
        return None
    needs: list[Rows | None] = []
    for value in node.inputs:
        axis = rows.axis - (rank(node.outputs[0]) - rank(value))
        extent = size(value, axis)
        if value is None or (rank(value) >= 0 and (axis < 0 or extent == 1)):
            needs.append(None)
        elif extent == whole:
            needs.append(Rows(axis, rows.start, rows.stop))
        else:
            return None
    return Form(needs)


def _first_input(node: ir.Node, rows: Rows) -> Form | None:
    """The first input has the output's shape, the others are parameters."""
    if size(node.inputs[0], rows.axis) != size(node.outputs[0], rows.axis):
        return None
    return Form([rows, *[None] * (len(node.inputs) - 1)])


def _per_channel(node: ir.Node, rows: Rows) -> Form | None:
    return _first_input(node, rows) if rows.axis != 1 and len(node.outputs) == 1 else None


def _softmax(node: ir.Node, rows: Rows) -> Form | None:
    axis = integer(node, "axis", -1)
    if axis < 0:
        axis += rank(node.outputs[0])
    # Before opset 13 all axes from this one on are one.
    return _first_input(node, rows) if rows.axis < axis else None


def _skip_normalization(node: ir.Node, rows: Rows) -> Form | None:
    if rows.axis >= rank(node.outputs[0]) - 1 or rank(node.inputs[1]) != rank(node.outputs[0]):
        return None
    same = size(node.inputs[1], rows.axis) == size(node.outputs[0], rows.axis)
    return Form([rows, rows, *[None] * (len(node.inputs) - 2)]) if same else None


def _concat(node: ir.Node, rows: Rows) -> Form | None:
    axis = integer(node, "axis", 0)
    axis += rank(node.outputs[0]) if axis < 0 else 0
    return Form([rows] * len(node.inputs)) if axis != rows.axis else None


def _transpose(node: ir.Node, rows: Rows) -> Form | None:
    order = node.attributes.get("perm")
    last = rank(node.outputs[0]) - 1
    axis = order.as_ints()[rows.axis] if order is not None else last - rows.axis
    return Form([Rows(axis, rows.start, rows.stop)])


def _slice(node: ir.Node, rows: Rows) -> Form | None:
    """Rows that a slice keeps lie further down in its input, `step` apart."""
    tensors = [constant_of(node, index) for index in range(1, len(node.inputs))]
    if len(tensors) < 3 or any(tensor is None for tensor in tensors):
        return None
    numbers = [[int(each) for each in t.numpy()] for t in tensors if t is not None]
    starts, ends, axes = numbers[:3]
    axes = [axis + rank(node.inputs[0]) if axis < 0 else axis for axis in axes]
    needs: list[Rows | None] = [None] * len(node.inputs)
    if rows.axis not in axes:
        return Form([rows, *needs[1:]])
    place = axes.index(rows.axis)
    step = numbers[3][place] if len(numbers) > 3 else 1
    whole = size(node.inputs[0], rows.axis)
    if whole is None or step < 1:
        return None
    first = starts[place] + (whole if starts[place] < 0 else 0)
    start = min(max(first, 0), whole) + rows.start * step
    needs[0] = Rows(rows.axis, start, start + (len(rows) - 1) * step + 1)
    starts[place], ends[place] = 0, (len(rows) - 1) * step + 1
    return Form(needs, constants={1: starts, 2: ends})


@dataclass(frozen=True, slots=True)
class _Window:
    """How windows lie along the picture's rows.

    Attributes:
        kernel: its rows, dilation counted in.
        stride: from one window to the next.
        pads: of all axes, first all starts, then all ends.
        place: the axis among the spatial ones.
        rows: of the input.
    """

    kernel: int
    stride: int
    pads: tuple[int, ...]
    place: int
    rows: int

    def padded(self, top: int, bottom: int) -> dict[str, object]:
        """Gives the attribute with other rows of padding."""
        pads = list(self.pads)
        pads[self.place] = top
        pads[self.place + len(pads) // 2] = bottom
        return {"pads": pads}


def _window(node: ir.Node, rows: Rows) -> _Window | None:
    kernel = _kernel(node)
    spatial = len(kernel)
    place = rows.axis - 2
    extent = size(node.inputs[0], rows.axis)
    if not 0 <= place < spatial or extent is None or rank(node.inputs[0]) != spatial + 2:
        return None
    strides = _integers(node, "strides", [1] * spatial)
    dilations = _integers(node, "dilations", [1] * spatial)
    lengths = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    pads = _pads(node, lengths, strides)
    if pads is None:
        return None
    return _Window(lengths[place], strides[place], tuple(pads), place, extent)


def _kernel(node: ir.Node) -> list[int]:
    weight = constant_of(node, 1)
    given = _integers(node, "kernel_shape", [])
    return given or (list(shape_of(weight)[2:]) if weight is not None else [])


def _integers(node: ir.Node, name: str, default: list[int]) -> list[int]:
    attribute = node.attributes.get(name)
    return default if attribute is None else list(attribute.as_ints())


def _pads(node: ir.Node, lengths: Sequence[int], strides: Sequence[int]) -> list[int] | None:
    """Gives explicit padding; what `auto_pad` means is worked out (ONNX, Conv)."""
    attribute = node.attributes.get("auto_pad")
    how = attribute.as_string() if attribute is not None else "NOTSET"
    if how in ("", "NOTSET"):
        return _integers(node, "pads", [0] * 2 * len(lengths))
    if how == "VALID":
        return [0] * 2 * len(lengths)
    starts, ends = [], []
    for place, (length, stride) in enumerate(zip(lengths, strides, strict=True)):
        extent = size(node.inputs[0], place + 2)
        if extent is None:
            return None
        total = max(0, (-(-extent // stride) - 1) * stride + length - extent)
        smaller, larger = total // 2, total - total // 2
        starts.append(smaller if how == "SAME_UPPER" else larger)
        ends.append(larger if how == "SAME_UPPER" else smaller)
    return [*starts, *ends]


def _windowed(node: ir.Node, rows: Rows) -> Form | None:
    """Convolutions and pooling: a row needs the rows that its window covers."""
    window = _window(node, rows)
    if window is None:
        return None
    first = rows.start * window.stride - window.pads[window.place]
    last = (rows.stop - 1) * window.stride - window.pads[window.place] + window.kernel
    start, stop = max(first, 0), min(last, window.rows)
    if start >= stop:
        return None
    return Form(
        [Rows(rows.axis, start, stop), *[None] * (len(node.inputs) - 1)],
        window.padded(start - first, last - stop),
        removed=["auto_pad"],
    )


def _convolution(node: ir.Node, rows: Rows) -> Form | None:
    weight = constant_of(node, 1)
    if weight is None or not _same_kernel(node.outputs[0], rows, prod(shape_of(weight)[1:])):
        return None
    found = _windowed(node, rows)
    if found is None or len(node.inputs) < 4:
        return found
    # onnxruntime's fused form adds a tensor of the output's shape.
    return Form([*found.needs[:3], rows], found.attributes, removed=found.removed)


def _same_kernel(value: ir.Value | None, rows: Rows, inner: int) -> bool:
    """Says whether a tile's sums are rounded where the whole operator's are."""
    if inner <= _PANEL:
        return True
    sizes = [size(value, axis) for axis in range(2, rank(value)) if axis != rows.axis]
    others = prod(each for each in sizes if each is not None)
    whole = size(value, rows.axis)
    if whole is None or None in sizes:
        return False
    return len(rows) * others > _KERNEL_COLUMNS or len(rows) == whole


def _pool(node: ir.Node, rows: Rows) -> Form | None:
    counted = integer(node, "count_include_pad", 0) and integer(node, "ceil_mode", 0)
    if counted or len(node.outputs) != 1:
        return None
    return _windowed(node, rows)


def _transposed_convolution(node: ir.Node, rows: Rows) -> Form | None:
    """A row is a sum over the input rows whose windows cover it."""
    auto = node.attributes.get("auto_pad")
    explicit = auto is None or auto.as_string() in ("", "NOTSET")
    weight = constant_of(node, 1)
    if not explicit or "output_shape" in node.attributes or weight is None:
        return None
    window = _window(node, rows)
    if window is None:
        return None
    top = window.pads[window.place]
    start = max(0, -((window.kernel - 1 - rows.start - top) // window.stride))
    stop = min(window.rows, (rows.stop - 1 + top) // window.stride + 1)
    need = Rows(rows.axis, start, stop)
    if start >= stop or not _same_kernel(node.inputs[0], need, shape_of(weight)[0]):
        return None
    above = rows.start + top - start * window.stride
    below = (stop - 1) * window.stride + window.kernel - (rows.stop + top)
    padding = _integers(node, "output_padding", [0] * (len(window.pads) // 2))
    padding = [0 if place == window.place else each for place, each in enumerate(padding)]
    if above < 0 or below < 0:
        return None
    attributes = {**window.padded(above, below), "output_padding": padding}
    return Form([need, *[None] * (len(node.inputs) - 1)], attributes)


def _matrix(node: ir.Node, rows: Rows) -> Form | None:
    """Rows of the left factor; where both have batches, the same batches of both."""
    out = rank(node.outputs[0])
    if rows.axis >= out - 1 or rank(node.inputs[0]) != out or len(rows) < 2:
        return None
    if any(integer(node, name, 0) for name in ("transA", "transBatchA", "transBatchB")):
        return None
    if size(node.inputs[0], rows.axis) != size(node.outputs[0], rows.axis):
        return None
    right = rows.axis - (out - rank(node.inputs[1]))
    shared = rows.axis == out - 2 or right < 0 or size(node.inputs[1], right) == 1
    return Form([rows, None if shared else Rows(right, rows.start, rows.stop)])


def _general_matrix(node: ir.Node, rows: Rows) -> Form | None:
    if rows.axis != 0 or integer(node, "transA", 0) or len(rows) < 2:
        return None
    bias = input_of(node, 2)
    if bias is None:
        return Form([rows, None][: len(node.inputs)])
    by_rows = rank(bias) == 2 and size(bias, 0) != 1
    return Form([rows, None, rows if by_rows else None])


_EXACT: Final = "bit-exact"
_WIDE: Final = "bit-exact: tiles whose kernel would sum in another order aren't made"

_ELEMENTWISE: Final = (
    *("Abs", "Add", "And", "Cast", "Ceil", "Clip", "Div", "Dropout", "Equal", "Floor", "Greater"),
    *("GreaterOrEqual", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Less", "LessOrEqual"),
    *("Max", "Min", "Mul", "Neg", "Not", "Or", "PRelu", "Relu", "Round", "Sign", "Sqrt", "Sub"),
    *("Sum", "Where", "Xor"),
)
_MAKERS: Final[Sequence[tuple[Maker, str, str, Sequence[str]]]] = (
    (_elementwise, "any", _EXACT, _ELEMENTWISE),
    (_per_channel, "any but channels", _EXACT, ("BatchNormalization",)),
    (_softmax, "any before `axis`", _EXACT, ("LayerNormalization", "LogSoftmax", "Softmax")),
    (
        _skip_normalization,
        "any but the last",
        _EXACT,
        ("com.microsoft.SkipLayerNormalization",),
    ),
    (_concat, "any but `axis`", _EXACT, ("Concat",)),
    (_transpose, "any", _EXACT, ("Transpose",)),
    (_slice, "any, with constant bounds", _EXACT, ("Slice",)),
    (_pool, "spatial, with halo", _EXACT, ("AveragePool", "MaxPool")),
    (_convolution, "spatial, with halo", _WIDE, ("Conv", "com.microsoft.FusedConv")),
    (_transposed_convolution, "spatial, with halo", _WIDE, ("ConvTranspose",)),
    (
        _matrix,
        "rows and batches, two at least",
        _EXACT,
        ("MatMul", "com.microsoft.FusedMatMul"),
    ),
    (
        _general_matrix,
        "rows, two at least",
        _EXACT,
        ("Gemm", "com.microsoft.FusedGemm"),
    ),
)

_FORMS: Final[Mapping[str, Maker]] = {
    op_type: maker for maker, _, _, op_types in _MAKERS for op_type in op_types
}

RULES: Final = tuple(
    Rule(op_type, "activations", axis, result)
    for _, axis, result, op_types in _MAKERS
    for op_type in op_types
)
