from __future__ import annotations

import numpy as np
import pytest

from tests.unit.tools.zoo.small import tiny_network
from tools.errors import ModelError
from tools.zoo.builder import Builder
from tools.zoo.weights import initial_weights


def test_the_same_network_gets_the_same_weights() -> None:
    first, second = initial_weights(tiny_network()), initial_weights(tiny_network())
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_no_two_weights_of_a_shape_are_alike() -> None:
    b = Builder("twins")
    x = b.input("x", (1, 8))
    for _ in range(2):
        x = b.op("MatMul", x, b.weight(8, 8))
    b.output("y", x, (1, 8))
    first, second = initial_weights(b.network()).values()
    assert not np.array_equal(first, second)


def test_a_weight_for_an_operator_without_distribution_is_refused() -> None:
    b = Builder("odd")
    b.output("y", b.op("PRelu", b.input("x", (1, 4)), b.weight(4)), (1, 4))
    with pytest.raises(ModelError, match="input 1 of a PRelu, for which no distribution is known"):
        initial_weights(b.network())


def test_a_weight_that_nothing_reads_is_refused() -> None:
    b = Builder("idle")
    b.weight(4)
    b.output("y", b.input("x", (1, 4)), (1, 4))
    with pytest.raises(ModelError, match="no operator reads weight 'weight_0'"):
        initial_weights(b.network())
