"""Inception-v3: Szegedy et al., 2016, arXiv 1512.00567, without the auxiliary classifier."""

from __future__ import annotations

from tools.graph.build import Network
from tools.zoo.builder import Builder
from tools.zoo.vision import (
    Map,
    average_pool,
    batch_norm,
    classify,
    concat,
    conv,
    max_pool,
    picture,
    relu,
)

_EPSILON = 1e-3


def inception_v3() -> Network:
    """The network for pictures of 299×299."""
    b = Builder("inception-v3")
    x = _layer(b, picture(b, 299), 32, 3, stride=2, padding=0)
    x = _layer(b, _layer(b, x, 32, 3, padding=0), 64, 3)
    x = _layer(b, max_pool(b, x, 3, 2), 80, 1)
    x = max_pool(b, _layer(b, x, 192, 3, padding=0), 3, 2)
    for pooled in (32, 64, 64):
        x = _small_grid(b, x, pooled)
    x = _reduce_to_17(b, x)
    for inner in (128, 160, 160, 192):
        x = _factored(b, x, inner)
    x = _reduce_to_8(b, x)
    for _ in range(2):
        x = _widened(b, x)
    classify(b, x)
    return b.network()


def _layer(
    b: Builder,
    x: Map,
    channels: int,
    kernel: int | tuple[int, int],
    *,
    stride: int = 1,
    padding: int | None = None,
) -> Map:
    x = conv(b, x, channels, kernel, stride=stride, padding=padding, bias=False)
    return relu(b, batch_norm(b, x, _EPSILON))


def _pooled(b: Builder, x: Map, channels: int) -> Map:
    return _layer(b, average_pool(b, x, 3, 1, 1), channels, 1)


def _small_grid(b: Builder, x: Map, pooled: int) -> Map:
    """Filters of four sizes beside each other, on 35×35 positions."""
    return concat(
        b,
        _layer(b, x, 64, 1),
        _layer(b, _layer(b, x, 48, 1), 64, 5),
        _layer(b, _layer(b, _layer(b, x, 64, 1), 96, 3), 96, 3),
        _pooled(b, x, pooled),
    )


def _reduce_to_17(b: Builder, x: Map) -> Map:
    double = _layer(b, _layer(b, x, 64, 1), 96, 3)
    return concat(
        b,
        _layer(b, x, 384, 3, stride=2, padding=0),
        _layer(b, double, 96, 3, stride=2, padding=0),
        max_pool(b, x, 3, 2),
    )


def _factored(b: Builder, x: Map, inner: int) -> Map:
    """Figure 6: 7×7 as 1×7 and 7×1, on 17×17 positions."""
    single = _layer(b, _layer(b, x, inner, 1), inner, (1, 7))
    double = _layer(b, _layer(b, x, inner, 1), inner, (7, 1))
    double = _layer(b, _layer(b, double, inner, (1, 7)), inner, (7, 1))
    return concat(
        b,
        _layer(b, x, 192, 1),
        _layer(b, single, 192, (7, 1)),
        _layer(b, double, 192, (1, 7)),
        _pooled(b, x, 192),
    )


def _reduce_to_8(b: Builder, x: Map) -> Map:
    wide = _layer(b, _layer(b, _layer(b, x, 192, 1), 192, (1, 7)), 192, (7, 1))
    return concat(
        b,
        _layer(b, _layer(b, x, 192, 1), 320, 3, stride=2, padding=0),
        _layer(b, wide, 192, 3, stride=2, padding=0),
        max_pool(b, x, 3, 2),
    )


def _widened(b: Builder, x: Map) -> Map:
    """Figure 7: 1×3 and 3×1 beside each other, on 8×8 positions."""
    single = _layer(b, x, 384, 1)
    double = _layer(b, _layer(b, x, 448, 1), 384, 3)
    return concat(
        b,
        _layer(b, x, 320, 1),
        *(_layer(b, single, 384, kernel) for kernel in ((1, 3), (3, 1))),
        *(_layer(b, double, 384, kernel) for kernel in ((1, 3), (3, 1))),
        _pooled(b, x, 192),
    )
