"""Networks without normalisation: VGG-16, SqueezeNet 1.0, U-Net."""

from __future__ import annotations

from tools.graph.build import Network
from tools.zoo.builder import Builder
from tools.zoo.vision import (
    CLASSES,
    Map,
    concat,
    conv,
    dense,
    flatten,
    global_pool,
    logits,
    max_pool,
    picture,
    relu,
)

_VGG16 = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
_UNET_CHANNELS = (64, 128, 256, 512, 1024)


def vgg16() -> Network:
    """Simonyan and Zisserman, 2015, arXiv 1409.1556, table 1, column D."""
    b = Builder("vgg16")
    x = picture(b, 224)
    for channels, layers in _VGG16:
        for _ in range(layers):
            x = relu(b, conv(b, x, channels))
        x = max_pool(b, x, 2, 2)
    x = flatten(b, x, 7 * 7)
    for _ in range(2):
        x = relu(b, dense(b, x, 4096))
    logits(b, dense(b, x, CLASSES))
    return b.network()


def squeezenet() -> Network:
    """Iandola et al., 2016, arXiv 1602.07360, table 1: version 1.0."""
    b = Builder("squeezenet1.0")
    x = relu(b, conv(b, picture(b, 224), 96, 7, stride=2, padding=0))
    for stage in (((16, 64), (16, 64), (32, 128)), ((32, 128), (48, 192), (48, 192), (64, 256))):
        x = max_pool(b, x, 3, 2, ceil=True)
        for squeeze, expand in stage:
            x = _fire(b, x, squeeze, expand)
    x = _fire(b, max_pool(b, x, 3, 2, ceil=True), 64, 256)
    x = relu(b, conv(b, x, CLASSES, 1))
    logits(b, flatten(b, global_pool(b, x)))
    return b.network()


def _fire(b: Builder, x: Map, squeeze: int, expand: int) -> Map:
    x = relu(b, conv(b, x, squeeze, 1))
    return concat(b, relu(b, conv(b, x, expand, 1)), relu(b, conv(b, x, expand, 3)))


def unet(side: int = 572, channels: tuple[int, ...] = _UNET_CHANNELS) -> Network:
    """Ronneberger, Fischer and Brox, 2015, arXiv 1505.04597, figure 1.

    No padding: each side of the answer is smaller than the picture's, and what skips the
    lower levels is cropped at its centre.

    Args:
        side: of the picture, in pixels.
        channels: of each level, from the top.

    Raises:
        ValueError: when the halvings don't come out even for this side.
    """
    b = Builder("unet")
    x = picture(b, side, channels=1)
    skips: list[tuple[Map, int]] = []
    for level in channels[:-1]:
        x, side = _two_convolutions(b, x, level, side)
        if side % 2:
            raise ValueError(f"a side of {side} can't be halved; choose the picture's side anew")
        skips.append((x, side))
        x, side = max_pool(b, x, 2, 2), side // 2
    x, side = _two_convolutions(b, x, channels[-1], side)
    for skip, skip_side in reversed(skips):
        x, side = _up(b, x, skip.channels), side * 2
        x = concat(b, _crop(b, skip, skip_side, side), x)
        x, side = _two_convolutions(b, x, skip.channels, side)
    b.output("logits", conv(b, x, 2, 1).value, (1, 2, side, side))
    return b.network()


def _two_convolutions(b: Builder, x: Map, channels: int, side: int) -> tuple[Map, int]:
    for _ in range(2):
        x = relu(b, conv(b, x, channels, 3, padding=0))
    return x, side - 4


def _up(b: Builder, x: Map, channels: int) -> Map:
    weights = b.weight(x.channels, channels, 2, 2), b.weight(channels)
    value = b.op("ConvTranspose", x.value, *weights, kernel_shape=[2, 2], strides=[2, 2])
    return Map(value, channels)


def _crop(b: Builder, x: Map, side: int, target: int) -> Map:
    first = (side - target) // 2
    starts, ends = b.constant([first, first]), b.constant([first + target, first + target])
    return Map(b.op("Slice", x.value, starts, ends, b.constant([2, 3])), x.channels)
