"""A small residual network for 32x32 greyscale pictures.

The pattern is that of K. He et al., "Deep Residual Learning for Image
Recognition" (2015), for small pictures: a stem, three stages of two blocks
with 24, 48 and 96 channels, the second and third of which halve the picture,
global average pooling and one linear layer. 392,000 parameters.
"""
# torch has no type information that this project relies on: its classes are Any to mypy.
# mypy: disallow-subclassing-any=False

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import Any, Final

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

STAGE_CHANNELS: Final = (24, 48, 96)
BLOCKS_PER_STAGE: Final = 2


class ConvNorm(nn.Sequential):
    """A convolution that keeps the size at stride 1, then batch normalisation."""

    conv: Any
    norm: Any

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> None:
        conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
        super().__init__(OrderedDict(conv=conv, norm=nn.BatchNorm2d(outputs)))

    def fold(self) -> None:
        """Moves the normalisation into the convolution; only for a network in eval mode."""
        self.conv = fuse_conv_bn_eval(self.conv, self.norm)
        self.norm = nn.Identity()


class ResidualBlock(nn.Module):
    """Two convolutions whose result is added to the input, or to a projection of it."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = ConvNorm(inputs, outputs, stride=stride)
        self.second = ConvNorm(outputs, outputs)
        same_shape = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same_shape else ConvNorm(inputs, outputs, 1, stride)

    def forward(self, features: Any) -> Any:
        """float32 [N, inputs, H, W] -> [N, outputs, H / stride, W / stride]."""
        inner = self.second(torch.relu(self.first(features)))
        return torch.relu(inner + self.shortcut(features))


def make_network(classes: int) -> nn.Module:
    """A network with torch's random initial weights.

    Args:
        classes: number of labels.

    Returns:
        float32 [N, 1, 32, 32], normalised -> float32 [N, classes], logits.
    """
    width = STAGE_CHANNELS[0]
    layers: OrderedDict[str, Any] = OrderedDict(stem=ConvNorm(1, width), relu=nn.ReLU())
    for index, outputs in enumerate(STAGE_CHANNELS, start=1):
        blocks = []
        for block in range(BLOCKS_PER_STAGE):
            halves = index > 1 and block == 0
            blocks.append(ResidualBlock(width, outputs, stride=2 if halves else 1))
            width = outputs
        layers[f"stage{index}"] = nn.Sequential(*blocks)
    layers.update(pool=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten())
    layers["classifier"] = nn.Linear(width, classes)
    return nn.Sequential(layers)


def folded(network: nn.Module) -> nn.Module:
    """A copy in eval mode without batch normalisation, which computes the same up to rounding."""
    result = copy.deepcopy(network).eval()
    for module in list(result.modules()):
        if isinstance(module, ConvNorm):
            module.fold()
    return result
