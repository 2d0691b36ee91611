"""MobileNets and EfficientNets: networks of inverted residual blocks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import Final

from tools.graph.build import Network
from tools.zoo.builder import Builder
from tools.zoo.vision import (
    CLASSES,
    Map,
    add,
    batch_norm,
    classify,
    conv,
    dense,
    flatten,
    global_pool,
    hard_swish,
    logits,
    picture,
    relu,
    relu6,
    squeeze_excite,
    swish,
)

Activation = Callable[[Builder, Map], Map]

_EPSILON: Final = 1e-3
_HEAD_CHANNELS: Final = 1280

_MOBILENET_V2 = (  # expansion, channels, blocks, stride
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
_V3_LARGE = (  # kernel, inner channels, channels, squeeze and excite, hard swish, stride
    (3, 16, 16, False, False, 1),
    (3, 64, 24, False, False, 2),
    (3, 72, 24, False, False, 1),
    (5, 72, 40, True, False, 2),
    (5, 120, 40, True, False, 1),
    (5, 120, 40, True, False, 1),
    (3, 240, 80, False, True, 2),
    (3, 200, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 480, 112, True, True, 1),
    (3, 672, 112, True, True, 1),
    (5, 672, 160, True, True, 2),
    (5, 960, 160, True, True, 1),
    (5, 960, 160, True, True, 1),
)
_V3_SMALL = (
    (3, 16, 16, True, False, 2),
    (3, 72, 24, False, False, 2),
    (3, 88, 24, False, False, 1),
    (5, 96, 40, True, True, 2),
    (5, 240, 40, True, True, 1),
    (5, 240, 40, True, True, 1),
    (5, 120, 48, True, True, 1),
    (5, 144, 48, True, True, 1),
    (5, 288, 96, True, True, 2),
    (5, 576, 96, True, True, 1),
    (5, 576, 96, True, True, 1),
)
_EFFICIENTNET_B0 = (  # expansion, channels, blocks, stride, kernel
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
_LITE4_WIDTH, _LITE4_DEPTH = 1.4, 1.8
_EFFICIENTNET_V2_L = (  # fused, expansion, channels, blocks, stride
    (True, 1, 32, 4, 1),
    (True, 4, 64, 7, 2),
    (True, 4, 96, 7, 2),
    (False, 4, 192, 10, 2),
    (False, 6, 224, 19, 1),
    (False, 6, 384, 25, 2),
    (False, 6, 640, 7, 1),
)


@dataclass(frozen=True, slots=True)
class _Style:
    """What a family of these networks has in common.

    Attributes:
        activation: after each normalisation but a block's last.
        epsilon: of the normalisations.
        tf_same: whether it pads as TensorFlow does.
    """

    activation: Activation
    epsilon: float = _EPSILON
    tf_same: bool = False

    def layer(
        self, b: Builder, x: Map, channels: int, kernel: int, *, stride: int = 1, groups: int = 1
    ) -> Map:
        """Adds convolution, normalisation, activation."""
        return self.activation(b, self.linear(b, x, channels, kernel, stride=stride, groups=groups))

    def linear(
        self,
        b: Builder,
        x: Map,
        channels: int,
        kernel: int = 1,
        *,
        stride: int = 1,
        groups: int = 1,
    ) -> Map:
        """Adds convolution and normalisation."""
        x = conv(
            b,
            x,
            channels,
            kernel,
            stride=stride,
            groups=groups,
            bias=False,
            tf_same=self.tf_same,
        )
        return batch_norm(b, x, self.epsilon)


@dataclass(frozen=True, slots=True)
class _Block:
    """Sizes of a block: channels inside and after it, stride and side of its convolution."""

    inner: int
    channels: int
    stride: int
    kernel: int = 3


def mobilenet_v2() -> Network:
    """Sandler et al., 2018, arXiv 1801.04381, table 2."""
    b = Builder("mobilenet-v2")
    style = _Style(relu6, epsilon=1e-5)
    x = style.layer(b, picture(b, 224), 32, 3, stride=2)
    for expansion, channels, blocks, stride in _MOBILENET_V2:
        for block in range(blocks):
            shape = _Block(x.channels * expansion, channels, 1 if block else stride)
            x = _inverted(b, style, x, shape)
    classify(b, style.layer(b, x, _HEAD_CHANNELS, 1))
    return b.network()


def mobilenet_v3_large() -> Network:
    """Howard et al., 2019, arXiv 1905.02244, table 1."""
    return _mobilenet_v3("mobilenet-v3-large", _V3_LARGE, 960, _HEAD_CHANNELS)


def mobilenet_v3_small() -> Network:
    """Howard et al., 2019, arXiv 1905.02244, table 2."""
    return _mobilenet_v3("mobilenet-v3-small", _V3_SMALL, 576, 1024)


def _mobilenet_v3(
    name: str, blocks: tuple[tuple[int, int, int, bool, bool, int], ...], last: int, hidden: int
) -> Network:
    b = Builder(name)
    x = _Style(hard_swish).layer(b, picture(b, 224), 16, 3, stride=2)
    for kernel, inner, channels, weighs, hard, stride in blocks:
        style = _Style(hard_swish if hard else relu)
        gate = partial(
            squeeze_excite, inner=_in_eights(inner / 4), activation="Relu", gate="HardSigmoid"
        )
        shape = _Block(inner, channels, stride, kernel)
        x = _inverted(b, style, x, shape, gate if weighs else None)
    x = _Style(hard_swish).layer(b, x, last, 1)
    x = hard_swish(b, dense(b, flatten(b, global_pool(b, x)), hidden))
    logits(b, dense(b, x, CLASSES))
    return b.network()


def efficientnet_lite4() -> Network:
    """EfficientNet-lite4 (R. Liu, 2020, in the TensorFlow TPU models), from arXiv 1905.11946.

    B0's table, 1.4 times as wide and 1.8 times as deep but for its two ends, without
    squeeze-and-excite, with ReLU6.
    """
    b = Builder("efficientnet-lite4")
    style = _Style(relu6, tf_same=True)
    x = style.layer(b, picture(b, 300), 32, 3, stride=2)
    for index, (expansion, base, count, stride, kernel) in enumerate(_EFFICIENTNET_B0):
        at_end = index in (0, len(_EFFICIENTNET_B0) - 1)
        channels = _in_eights(base * _LITE4_WIDTH)
        for block in range(count if at_end else ceil(count * _LITE4_DEPTH)):
            step = 1 if block else stride
            x = _inverted(b, style, x, _Block(x.channels * expansion, channels, step, kernel))
    classify(b, style.layer(b, x, _HEAD_CHANNELS, 1))
    return b.network()


def efficientnet_v2_l() -> Network:
    """Tan and Le, 2021, arXiv 2104.00298: size L, pictures of 480×480."""
    b = Builder("efficientnet-v2-l")
    style = _Style(swish)
    x = style.layer(b, picture(b, 480), 32, 3, stride=2)
    for fused, expansion, channels, blocks, stride in _EFFICIENTNET_V2_L:
        for block in range(blocks):
            shape = _Block(x.channels * expansion, channels, 1 if block else stride)
            if fused:
                x = _fused(b, style, x, shape)
                continue
            gate = partial(
                squeeze_excite, inner=x.channels // 4, activation="Sigmoid", gate="Sigmoid"
            )
            x = _inverted(b, style, x, shape, gate)
    classify(b, style.layer(b, x, _HEAD_CHANNELS, 1))
    return b.network()


def _inverted(
    b: Builder, style: _Style, x: Map, block: _Block, gate: Activation | None = None
) -> Map:
    """Widen, convolve each channel by itself, weigh the channels, narrow; skip where it fits."""
    inner = block.inner
    y = style.layer(b, x, inner, 1) if inner != x.channels else x
    y = style.layer(b, y, inner, block.kernel, stride=block.stride, groups=inner)
    if gate is not None:
        y = gate(b, y)
    return _skip(b, x, style.linear(b, y, block.channels), block)


def _fused(b: Builder, style: _Style, x: Map, block: _Block) -> Map:
    """One dense convolution in the place of widening and convolving by channel."""
    if block.inner == x.channels:
        y = style.layer(b, x, block.channels, block.kernel, stride=block.stride)
    else:
        y = style.layer(b, x, block.inner, block.kernel, stride=block.stride)
        y = style.linear(b, y, block.channels)
    return _skip(b, x, y, block)


def _skip(b: Builder, x: Map, y: Map, block: _Block) -> Map:
    return add(b, x, y) if block.stride == 1 and x.channels == y.channels else y


def _in_eights(channels: float) -> int:
    """Rounds to a multiple of 8 that is at least nine tenths of what was asked for."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded
