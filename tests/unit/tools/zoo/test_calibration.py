from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from app.engine import WholeModel
from tests.unit.tools.zoo.small import RANGES, calibrated, opened, tiny_network
from tools.errors import ModelError
from tools.graph.build import Network, write_network
from tools.zoo.builder import Builder
from tools.zoo.calibration import calibrate
from tools.zoo.check import spread
from tools.zoo.inputs import example_inputs
from tools.zoo.vision import Map, batch_norm, conv, logits, picture, relu
from tools.zoo.weights import initial_weights

DEPTH = 30


def deep_network() -> Network:
    b = Builder("deep")
    x = picture(b, 8)
    for _ in range(DEPTH):
        x = relu(b, conv(b, x, 8))
    logits(b, Map(b.op("Flatten", x.value, axis=1), 8 * 8 * 8))
    return b.network()


def test_a_deep_network_stays_alive(tmp_path: Path) -> None:
    network = deep_network()
    model = opened(network, tmp_path)
    outputs = [
        model.run(example_inputs(network.inputs, {}, "picture", f"other {n}"))["logits"]
        for n in range(4)
    ]
    assert spread(outputs) > 0.2
    assert 0.1 < np.std(outputs) < 10


def test_without_calibration_it_would_not(tmp_path: Path) -> None:
    network = deep_network()
    write_network(network, initial_weights(network), tmp_path / "model.onnx")
    model = WholeModel(tmp_path / "model.onnx", "none")
    outputs = [
        model.run(example_inputs(network.inputs, {}, "picture", f"other {n}"))["logits"]
        for n in range(4)
    ]
    assert spread(outputs) < 0.2


def test_running_statistics_are_those_of_the_inputs() -> None:
    b = Builder("normalized")
    x = batch_norm(b, picture(b, 8))
    b.output("y", x.value, (1, 3, 8, 8))
    network = b.network()
    inputs = [example_inputs(network.inputs, {}, "picture", f"calibration {n}") for n in range(4)]
    weights = calibrated(network)
    pixels = np.concatenate([each["image"] for each in inputs])
    names = network.operators[0].inputs
    np.testing.assert_allclose(weights[names[3]], pixels.mean(axis=(0, 2, 3)), rtol=1e-4)
    np.testing.assert_allclose(weights[names[4]], pixels.var(axis=(0, 2, 3)), rtol=1e-4)


def test_a_dead_layer_is_refused_by_name() -> None:
    network = tiny_network()
    weights = initial_weights(network)
    weights["weight_0"][:] = weights["weight_1"][:] = 0
    inputs = [example_inputs(network.inputs, RANGES, "picture", "calibration")]
    with pytest.raises(ModelError, match="'Conv_0' gives outputs of size"):
        calibrate(network, weights, inputs, lambda done: None)


def test_a_weight_used_twice_keeps_its_values() -> None:
    b = Builder("tied")
    table = b.weight(50, 16)
    x = b.op("Gather", table, b.input("input_ids", ("batch", "sequence"), "int64"), axis=0)
    scores = b.op("MatMul", x, b.op("Transpose", table, perm=[1, 0]))
    b.output("logits", scores, ("batch", "sequence", 50))
    network = b.network()
    drawn = initial_weights(network)
    assert np.array_equal(drawn[table], calibrated(network)[table])
