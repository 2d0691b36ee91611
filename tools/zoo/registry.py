"""The zoo's models by name.

Seven topologies come from the onnx package, which carries them for its own tests: they are graphs
as exporters of 2018 wrote them. The others are defined here. A library of definitions would have
been the other way; the usual one for pictures can't be imported beside a CPU build of torch (it
needs an operator library that is published for GPUs alone), and what an exporter writes changes
with its version, which would change the models under the benchmarks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from app.errors import NotFoundError
from tools.graph.build import Network, light_network
from tools.zoo import inception, mobile, plain, resnet, sequences

Ranges = Mapping[str, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Entry:
    """A model of the zoo.

    Attributes:
        name: also the name of its folder.
        title: one line for people.
        define: gives the architecture.
        parameters: what training learns, as published.
        tolerance: largest relative difference from that number; 0 but where a note says why.
        scores: what the first output holds: "logits" or "probabilities".
        ranges: for each integer input its least value and the first value too large.
        note: why the number of parameters differs.
    """

    name: str
    title: str
    define: Callable[[], Network]
    parameters: int
    tolerance: float = 0.0
    scores: str = "logits"
    ranges: Ranges = field(default_factory=dict)
    note: str = ""


def find(name: str) -> Entry:
    """Gives the model of a name.

    Raises:
        NotFoundError: with the names that there are.
    """
    for entry in ENTRIES:
        if entry.name == name:
            return entry
    names = ", ".join(entry.name for entry in ENTRIES)
    raise NotFoundError(f"the zoo has no {name!r}; it has {names}")


def _light(name: str, title: str, file: str, parameters: int, scores: str) -> Entry:
    define = partial(light_network, f"light_{file}.onnx")
    return Entry(name, title, define, parameters, scores=scores)


_MASK: Final = (1, 2)
"""Every position counts."""

ENTRIES: Final = (
    _light("alexnet", "AlexNet, two columns", "bvlc_alexnet", 60_965_224, "probabilities"),
    Entry("vgg-16", "VGG, 16 layers", plain.vgg16, 138_357_544),
    _light("vgg-19", "VGG, 19 layers", "vgg19", 143_667_240, "probabilities"),
    _light("resnet-50", "ResNet, 50 layers", "resnet50", 25_557_032, "probabilities"),
    Entry(
        "resnet-101",
        "ResNet, 101 layers",
        partial(resnet.resnet_v1, "resnet-101", resnet.RESNET_101),
        44_549_160,
    ),
    Entry(
        "resnet-152",
        "ResNet, 152 layers",
        partial(resnet.resnet_v1, "resnet-152", resnet.RESNET_152),
        60_192_808,
    ),
    Entry(
        "resnet-50-v2",
        "ResNet with pre-activation, 50 layers",
        partial(resnet.resnet_v2, "resnet-50-v2", resnet.RESNET_50),
        25_549_352,
    ),
    Entry(
        "resnet-101-v2",
        "ResNet with pre-activation, 101 layers",
        partial(resnet.resnet_v2, "resnet-101-v2", resnet.RESNET_101),
        44_541_480,
    ),
    Entry(
        "resnet-152-v2",
        "ResNet with pre-activation, 152 layers",
        partial(resnet.resnet_v2, "resnet-152-v2", resnet.RESNET_152),
        60_185_128,
    ),
    Entry(
        "densenet-121",
        "DenseNet, 121 layers",
        partial(light_network, "light_densenet121.onnx"),
        7_978_856,
        tolerance=0.011,
        note="this graph scales after each normalisation by layers of their own, so scale and "
        "bias are there twice",
    ),
    _light("inception-v1", "Inception-v1 (GoogLeNet)", "inception_v1", 6_998_552, "probabilities"),
    Entry("inception-v3", "Inception-v3", inception.inception_v3, 23_834_568),
    Entry("squeezenet-1.0", "SqueezeNet 1.0", plain.squeezenet, 1_248_424),
    _light("squeezenet-1.1", "SqueezeNet 1.1", "squeezenet", 1_235_496, "probabilities"),
    _light("shufflenet", "ShuffleNet, four groups", "shufflenet", 1_393_320, "probabilities"),
    Entry("mobilenet-v2", "MobileNet-v2", mobile.mobilenet_v2, 3_504_872),
    Entry("mobilenet-v3-small", "MobileNet-v3 small", mobile.mobilenet_v3_small, 2_542_856),
    Entry("mobilenet-v3-large", "MobileNet-v3 large", mobile.mobilenet_v3_large, 5_483_032),
    Entry("efficientnet-lite4", "EfficientNet-lite4", mobile.efficientnet_lite4, 13_006_568),
    Entry("efficientnet-v2-l", "EfficientNet-v2-L", mobile.efficientnet_v2_l, 118_515_272),
    Entry(
        "bert-base",
        "BERT base, encoder and pooler",
        sequences.bert,
        109_482_240,
        ranges={
            "input_ids": (0, sequences.BERT_BASE.vocabulary),
            "attention_mask": _MASK,
            "token_type_ids": (0, 2),
        },
    ),
    Entry(
        "gpt-small",
        "GPT-2 decoder of DistilGPT-2's size",
        sequences.gpt,
        81_912_576,
        ranges={"input_ids": (0, sequences.DISTILGPT2.vocabulary), "attention_mask": _MASK},
    ),
    Entry(
        "lstm",
        "LSTM language model, medium",
        sequences.lstm,
        19_775_200,
        tolerance=0.0003,
        ranges={"input_ids": (0, sequences.LSTM_MEDIUM.vocabulary)},
        note="ONNX's LSTM has two biases for each gate, the paper's has one",
    ),
    Entry("u-net", "U-Net without padding, 572 to 388 pixels", plain.unet, 31_030_658),
)
