from __future__ import annotations

from math import prod

import pytest

from app.errors import NotFoundError
from app.manifest import MODEL_ID
from tools.graph.build import Network
from tools.zoo.registry import ENTRIES, Entry, find

BY_NAME = [pytest.param(entry, id=entry.name) for entry in ENTRIES]


def parameters(network: Network) -> int:
    measured = {
        name
        for operator in network.operators
        if operator.op_type == "BatchNormalization"
        for name in operator.inputs[3:]
    }
    return sum(prod(shape) for name, shape in network.weights.items() if name not in measured)


@pytest.mark.parametrize("entry", BY_NAME)
def test_an_architecture_has_as_many_parameters_as_published(entry: Entry) -> None:
    found = parameters(entry.define())
    assert abs(found - entry.parameters) <= entry.tolerance * entry.parameters


@pytest.mark.parametrize("entry", BY_NAME)
def test_every_deviation_from_the_published_number_is_explained(entry: Entry) -> None:
    assert bool(entry.tolerance) == bool(entry.note)
    assert entry.tolerance < 0.02


@pytest.mark.parametrize("entry", BY_NAME)
def test_an_architecture_computes_in_order_and_uses_all_it_has(entry: Entry) -> None:
    network = entry.define()
    given = {spec.name for spec in network.inputs} | {*network.weights, *network.constants}
    known = set(given)
    read: set[str] = set()
    for operator in network.operators:
        assert known.issuperset(name for name in operator.inputs if name)
        assert known.isdisjoint(operator.outputs)
        known.update(operator.outputs)
        read.update(operator.inputs)
    assert read >= given
    assert known.issuperset(spec.name for spec in network.outputs)


def test_names_are_model_ids_and_unique() -> None:
    names = [entry.name for entry in ENTRIES]
    assert all(MODEL_ID.fullmatch(name) for name in names)
    assert len(set(names)) == len(names)


def test_an_unknown_name_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(NotFoundError, match=r"no 'resnet-51'; it has .*resnet-50"):
        find("resnet-51")
