"""Layers of convolutional networks. Feature maps are NCHW with a batch of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tools.zoo.builder import Builder

BATCH_NORM_EPSILON: Final = 1e-5
CLASSES: Final = 1000
"""Of ImageNet (ILSVRC 2012)."""


@dataclass(frozen=True, slots=True)
class Map:
    """A feature map: the value's name and its channels."""

    value: str
    channels: int


def picture(b: Builder, side: int, channels: int = 3) -> Map:
    """Adds the input "image" [1, channels, side, side]."""
    return Map(b.input("image", (1, channels, side, side)), channels)


def conv(
    b: Builder,
    x: Map,
    channels: int,
    kernel: int | tuple[int, int] = 3,
    *,
    stride: int = 1,
    padding: int | None = None,
    groups: int = 1,
    bias: bool = True,
    tf_same: bool = False,
) -> Map:
    """Adds a convolution.

    Args:
        b: where to.
        x: the input.
        channels: of the output.
        kernel: side, or height and width.
        stride: in both directions.
        padding: on all four sides; None for half the kernel.
        groups: of channels that don't see each other.
        bias: whether it has one.
        tf_same: TensorFlow's "SAME", which pads the far side more when the stride is 2.
    """
    height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
    weights = [b.weight(channels, x.channels // groups, height, width)]
    if bias:
        weights.append(b.weight(channels))
    rows, columns = (height // 2, width // 2) if padding is None else (padding, padding)
    shape = {"kernel_shape": [height, width], "strides": [stride, stride]}
    if tf_same:
        value = b.op("Conv", x.value, *weights, **shape, group=groups, auto_pad="SAME_UPPER")
    else:
        pads = [rows, columns, rows, columns]
        value = b.op("Conv", x.value, *weights, **shape, group=groups, pads=pads)
    return Map(value, channels)


def batch_norm(b: Builder, x: Map, epsilon: float = BATCH_NORM_EPSILON) -> Map:
    """Adds a batch normalisation with running statistics."""
    parameters = [b.weight(x.channels) for _ in range(4)]
    return Map(b.op("BatchNormalization", x.value, *parameters, epsilon=epsilon), x.channels)


def relu(b: Builder, x: Map) -> Map:
    """Adds max(x, 0)."""
    return Map(b.op("Relu", x.value), x.channels)


def relu6(b: Builder, x: Map) -> Map:
    """Adds min(max(x, 0), 6)."""
    bounds = b.constant(0.0, "float32"), b.constant(6.0, "float32")
    return Map(b.op("Clip", x.value, *bounds), x.channels)


def hard_swish(b: Builder, x: Map) -> Map:
    """Adds x · relu6(x + 3) / 6."""
    return Map(b.op("HardSwish", x.value), x.channels)


def swish(b: Builder, x: Map) -> Map:
    """Adds x · sigmoid(x), as exporters write it."""
    return Map(b.op("Mul", x.value, b.op("Sigmoid", x.value)), x.channels)


def add(b: Builder, x: Map, y: Map) -> Map:
    """Adds the sum of two maps of the same shape."""
    return Map(b.op("Add", x.value, y.value), x.channels)


def concat(b: Builder, *maps: Map) -> Map:
    """Puts maps behind each other along the channels."""
    value = b.op("Concat", *(each.value for each in maps), axis=1)
    return Map(value, sum(each.channels for each in maps))


def max_pool(
    b: Builder, x: Map, kernel: int, stride: int, padding: int = 0, *, ceil: bool = False
) -> Map:
    """Adds a maximum over windows; `ceil` keeps a last window that is cut off by the border."""
    value = b.op(
        "MaxPool",
        x.value,
        kernel_shape=[kernel, kernel],
        strides=[stride, stride],
        pads=[padding] * 4,
        ceil_mode=int(ceil),
    )
    return Map(value, x.channels)


def average_pool(b: Builder, x: Map, kernel: int, stride: int, padding: int = 0) -> Map:
    """Adds a mean over windows, padding included."""
    value = b.op(
        "AveragePool",
        x.value,
        kernel_shape=[kernel, kernel],
        strides=[stride, stride],
        pads=[padding] * 4,
        count_include_pad=1,
    )
    return Map(value, x.channels)


def global_pool(b: Builder, x: Map) -> Map:
    """Adds the mean of each channel, [1, channels, 1, 1]."""
    return Map(b.op("GlobalAveragePool", x.value), x.channels)


def squeeze_excite(b: Builder, x: Map, inner: int, activation: str, gate: str) -> Map:
    """Weighs each channel by what all channels are on average.

    Args:
        b: where to.
        x: the input.
        inner: channels between the two convolutions.
        activation: operator between them.
        gate: "HardSigmoid" (with slope 1/6) or "Sigmoid".
    """
    hidden = conv(b, global_pool(b, x), inner, 1)
    inner_value = b.op(activation, hidden.value)
    if activation == "Sigmoid":  # swish
        inner_value = b.op("Mul", hidden.value, inner_value)
    scale = conv(b, Map(inner_value, inner), x.channels, 1)
    slope = {"alpha": 1 / 6} if gate == "HardSigmoid" else {}
    return Map(b.op("Mul", x.value, b.op(gate, scale.value, **slope)), x.channels)


def flatten(b: Builder, x: Map, positions: int = 1) -> Map:
    """Makes [1, channels · positions] of a map with that many positions."""
    return Map(b.op("Flatten", x.value, axis=1), x.channels * positions)


def dense(b: Builder, x: Map, channels: int) -> Map:
    """Adds a fully connected layer with bias to [1, channels]."""
    weights = b.weight(channels, x.channels), b.weight(channels)
    return Map(b.op("Gemm", x.value, *weights, transB=1), channels)


def logits(b: Builder, x: Map) -> None:
    """Makes [1, classes] the output "logits"."""
    b.output("logits", x.value, (1, x.channels))


def classify(b: Builder, x: Map, classes: int = CLASSES) -> None:
    """Ends a network: global mean, fully connected layer, output "logits" [1, classes]."""
    logits(b, dense(b, flatten(b, global_pool(b, x)), classes))
