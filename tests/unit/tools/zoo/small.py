"""Small networks to test with."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from app.engine import WholeModel
from app.tensors import Array
from tools.graph.build import Network, write_network
from tools.zoo.builder import Builder
from tools.zoo.calibration import calibrate
from tools.zoo.inputs import example_inputs
from tools.zoo.registry import Ranges
from tools.zoo.sequences import TransformerSize
from tools.zoo.vision import classify, conv, picture, relu
from tools.zoo.weights import Weights, initial_weights

TINY = TransformerSize(vocabulary=50, positions=32, width=16, layers=2, heads=4)
RANGES: Ranges = {
    "input_ids": (0, TINY.vocabulary),
    "attention_mask": (1, 2),
    "token_type_ids": (0, 2),
}


def tiny_network() -> Network:
    b = Builder("tiny")
    x = relu(b, conv(b, picture(b, 16), 4))
    classify(b, relu(b, conv(b, x, 8, stride=2)), classes=10)
    return b.network()


def calibrated(network: Network, ranges: Ranges = RANGES) -> Weights:
    weights = initial_weights(network)
    inputs = [
        example_inputs(network.inputs, ranges, "picture", f"calibration {n}") for n in range(4)
    ]
    calibrate(network, weights, inputs, lambda done: None)
    return weights


def opened(network: Network, folder: Path) -> WholeModel:
    path = folder / "model.onnx"
    write_network(network, calibrated(network), path)
    return WholeModel(path, "none")


def tokens(*values: int) -> Array:
    return np.array([values], np.int64)
