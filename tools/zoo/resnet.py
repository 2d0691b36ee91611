"""Residual networks of bottleneck blocks."""

from __future__ import annotations

from functools import partial

from tools.graph.build import Network
from tools.zoo.builder import Builder
from tools.zoo.vision import Map, add, batch_norm, classify, conv, max_pool, picture, relu

RESNET_50 = (3, 4, 6, 3)
RESNET_101 = (3, 4, 23, 3)
RESNET_152 = (3, 8, 36, 3)
_WIDTHS = (64, 128, 256, 512)
_EXPANSION = 4

_conv = partial(conv, bias=False)


def resnet_v1(name: str, depths: tuple[int, ...]) -> Network:
    """He et al., 2016, arXiv 1512.03385, table 1, with the stride in the 3×3 convolution.

    Args:
        name: of the network.
        depths: blocks of each stage.
    """
    b = Builder(name)
    x = relu(b, batch_norm(b, _conv(b, picture(b, 224), 64, 7, stride=2)))
    x = max_pool(b, x, 3, 2, 1)
    for stage, (width, depth) in enumerate(zip(_WIDTHS, depths, strict=True)):
        for block in range(depth):
            x = _block_v1(b, x, width, stride=2 if stage and not block else 1)
    classify(b, x)
    return b.network()


def _block_v1(b: Builder, x: Map, width: int, stride: int) -> Map:
    y = relu(b, batch_norm(b, _conv(b, x, width, 1)))
    y = relu(b, batch_norm(b, _conv(b, y, width, 3, stride=stride)))
    y = batch_norm(b, _conv(b, y, width * _EXPANSION, 1))
    if x.channels != y.channels:
        x = batch_norm(b, _conv(b, x, y.channels, 1, stride=stride))
    return relu(b, add(b, x, y))


def resnet_v2(name: str, depths: tuple[int, ...]) -> Network:
    """He et al., 2016, arXiv 1603.05027: normalisation and activation before each convolution.

    Args:
        name: of the network.
        depths: blocks of each stage.
    """
    b = Builder(name)
    x = max_pool(b, _conv(b, picture(b, 224), 64, 7, stride=2), 3, 2, 1)
    for stage, (width, depth) in enumerate(zip(_WIDTHS, depths, strict=True)):
        for block in range(depth):
            x = _block_v2(b, x, width, stride=2 if stage and not block else 1)
    classify(b, relu(b, batch_norm(b, x)))
    return b.network()


def _block_v2(b: Builder, x: Map, width: int, stride: int) -> Map:
    before = relu(b, batch_norm(b, x))
    y = relu(b, batch_norm(b, _conv(b, before, width, 1)))
    y = relu(b, batch_norm(b, _conv(b, y, width, 3, stride=stride)))
    y = _conv(b, y, width * _EXPANSION, 1)
    if x.channels != y.channels:
        x = _conv(b, before, y.channels, 1, stride=stride)
    return add(b, x, y)
