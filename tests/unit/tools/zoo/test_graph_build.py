from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.unit.tools.zoo.small import tiny_network
from tools.errors import ModelError
from tools.graph.build import count_parameters, light_network, write_network
from tools.graph.load import load_model
from tools.zoo.builder import Builder
from tools.zoo.weights import Weights, initial_weights


def test_the_same_network_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("first", "second"):
        network = tiny_network()
        write_network(network, initial_weights(network), tmp_path / name)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


def test_running_statistics_and_scalars_are_no_parameters(tmp_path: Path) -> None:
    b = Builder("counted")
    x = b.op("Mul", b.input("x", (1, 3, 2, 2)), b.constant(2.0, "float32"))
    x = b.op("BatchNormalization", x, *(b.weight(3) for _ in range(4)))
    b.output("y", x, (1, 3, 2, 2))
    network = b.network()
    write_network(network, initial_weights(network), tmp_path / "model.onnx")
    assert count_parameters(load_model(tmp_path / "model.onnx")) == 6


def test_fills_become_weights_and_leave_no_operator() -> None:
    network = light_network("light_squeezenet.onnx")
    assert "ConstantOfShape" not in {operator.op_type for operator in network.operators}
    assert [spec.shape for spec in network.inputs] == [(1, 3, 224, 224)]
    assert network.weights["conv1_w_0"] == (64, 3, 3, 3)
    assert not network.constants


def test_a_topology_that_the_package_lacks_is_named() -> None:
    with pytest.raises(ModelError, match=r"has no light_other\.onnx"):
        light_network("light_other.onnx")


@pytest.mark.parametrize(
    "change",
    [
        lambda values: values.pop("weight_0"),
        lambda values: values.update(weight_0=np.zeros((1,), np.float32)),
        lambda values: values.update(weight_0=values["weight_0"].astype(np.float64)),
    ],
    ids=["missing", "another shape", "another type"],
)
def test_values_that_do_not_fit_are_refused_and_nothing_is_written(
    change: Callable[[Weights], object], tmp_path: Path
) -> None:
    network = tiny_network()
    values = initial_weights(network)
    change(values)
    with pytest.raises(ModelError, match=r"weight 'weight_0' needs float32 values of \(4, 3, 3, 3"):
        write_network(network, values, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_an_invalid_graph_is_refused(tmp_path: Path) -> None:
    b = Builder("invalid")
    b.output("y", b.op("Relu", b.input("x", (1, 4))), (1, 5))
    with pytest.raises(ModelError, match="not a valid ONNX model"):
        write_network(b.network(), {}, tmp_path / "model.onnx")
