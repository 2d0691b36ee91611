from __future__ import annotations

from pathlib import Path

import pytest

from app.engine import WholeModel
from tests.unit.tools.zoo.small import calibrated
from tools.accuracy.difference import compare
from tools.graph.build import Network, write_network
from tools.zoo.builder import Builder
from tools.zoo.inputs import example_inputs
from tools.zoo.registry import find
from tools.zoo.residual import branch_ends
from tools.zoo.vision import add, batch_norm, classify, conv, picture, relu

BLOCKS = 40


def residual_network() -> Network:
    b = Builder("residual")
    x = relu(b, conv(b, picture(b, 16), 8))
    for _ in range(BLOCKS):
        y = relu(b, batch_norm(b, conv(b, x, 8, bias=False)))
        x = relu(b, add(b, x, batch_norm(b, conv(b, y, 8, bias=False))))
    classify(b, x, classes=10)
    return b.network()


def test_each_block_has_one_branch() -> None:
    network = residual_network()
    kinds = {operator.name: operator.op_type for operator in network.operators}
    ends = branch_ends(network)
    assert len(ends) == BLOCKS
    assert {kinds[name] for name in ends} == {"BatchNormalization"}


def test_of_branch_and_projection_the_branch_is_the_longer_one() -> None:
    b = Builder("projected")
    x = picture(b, 8)
    branch = conv(b, relu(b, conv(b, x, 4, bias=False)), 4, bias=False)
    add(b, conv(b, x, 4, 1, bias=False), branch)
    network = b.network()
    (end,) = branch_ends(network)
    assert f"{end}.out" == branch.value


@pytest.mark.parametrize(
    ("name", "blocks"),
    [("resnet-50", 16), ("resnet-152-v2", 50), ("shufflenet", 13), ("densenet-121", 0)],
)
def test_known_networks_have_as_many_branches_as_blocks(name: str, blocks: int) -> None:
    assert len(branch_ends(find(name).define())) == blocks


def test_a_deep_network_does_not_make_much_of_rounding(tmp_path: Path) -> None:
    network = residual_network()
    path = tmp_path / "model.onnx"
    write_network(network, calibrated(network), path)
    inputs = example_inputs(network.inputs, {}, "picture", "other")
    plain, optimized = (WholeModel(path, level).run(inputs) for level in ("none", "all"))
    assert compare(plain, optimized).relative < 1e-5
