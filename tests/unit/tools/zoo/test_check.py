from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.unit.tools.zoo.small import calibrated, tiny_network
from tools.graph.build import Network, write_network
from tools.zoo.builder import Builder
from tools.zoo.check import check, spread
from tools.zoo.inputs import KINDS
from tools.zoo.registry import Entry
from tools.zoo.vision import batch_norm, conv, picture
from tools.zoo.weights import Weights, initial_weights

PARAMETERS = 4 * 27 + 4 + 8 * 36 + 8 + 80 + 10
ENTRY = Entry("tiny", "Tiny", tiny_network, PARAMETERS)


def written(folder: Path, network: Network, weights: Weights) -> Path:
    write_network(network, weights, folder / "model.onnx")
    return folder


def test_a_sound_network_has_no_problems(tmp_path: Path) -> None:
    network = tiny_network()
    found = check(ENTRY, written(tmp_path, network, calibrated(network)))
    assert found.problems == ()
    assert found.parameters == PARAMETERS


def test_another_number_of_parameters_is_found(tmp_path: Path) -> None:
    network = tiny_network()
    folder = written(tmp_path, network, calibrated(network))
    found = check(replace(ENTRY, parameters=PARAMETERS + 1), folder)
    assert found.problems == (f"{PARAMETERS} parameters, published are {PARAMETERS + 1}",)
    assert check(replace(ENTRY, parameters=PARAMETERS + 1, tolerance=0.01), folder).problems == ()


def test_a_dead_network_is_found(tmp_path: Path) -> None:
    network = tiny_network()
    weights = calibrated(network)
    weights["weight_3"][:] = -100
    found = check(ENTRY, written(tmp_path, network, weights))
    assert found.problems == tuple(
        f"output logits, {kind}: hardly depends on the input, spread 0.000" for kind in KINDS
    )


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_output_that_is_not_finite_is_found(tmp_path: Path, value: float) -> None:
    network = tiny_network()
    weights = calibrated(network)
    weights["weight_5"][3] = value
    found = check(ENTRY, written(tmp_path, network, weights))
    assert found.problems == tuple(f"output logits, {kind}: isn't finite" for kind in KINDS)


def test_saturated_probabilities_are_found(tmp_path: Path) -> None:
    b = Builder("sure")
    scores = b.op("Flatten", b.input("image", (1, 3, 8, 8)), axis=1)
    certain = b.op("Softmax", b.op("Mul", scores, b.constant(1000.0, "float32")), axis=1)
    b.output("probabilities", certain, (1, 192))
    entry = Entry("sure", "Sure", b.network, 0, scores="probabilities")
    found = check(entry, written(tmp_path, b.network(), {}))
    assert found.problems == ("a probability of 1.0000: the scores are saturated",)


def test_spread_tells_same_from_different() -> None:
    rng = np.random.default_rng(1)
    outputs = [rng.standard_normal(1000) for _ in range(4)]
    assert spread([outputs[0]] * 4) == 0
    assert spread([np.zeros(3)] * 4) == 0
    assert spread(outputs) == pytest.approx(0.75**0.5, abs=0.02)


def test_a_network_that_makes_much_of_rounding_is_found(tmp_path: Path) -> None:
    b = Builder("chaotic")
    # Optimising folds the normalisation into the convolution, which rounds differently.
    x = batch_norm(b, conv(b, picture(b, 16), 4, bias=False))
    waves = b.op("Sin", b.op("Mul", x.value, b.constant(1e5, "float32")))
    b.output("logits", waves, (1, 4, 16, 16))
    network = b.network()
    folder = written(tmp_path, network, initial_weights(network))
    (problem,) = check(Entry("chaotic", "Chaotic", b.network, 4 * 27 + 8), folder).problems
    assert problem.startswith("chaotic: optimisations change an output by")
