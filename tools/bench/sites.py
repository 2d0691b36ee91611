"""Models that stand beside the quiet client's one in an image, for attacks that need them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, unique
from pathlib import Path
from typing import Final

import numpy as np

from app.limits import MIB
from app.tensors import Array, TensorSpec
from tools.bench.subjects import Cut, Subject, partitioned
from tools.graph.build import Network, Operator, write_network
from tools.model_folder import MODEL_FILE, ModelFolder

WIDE: Final = "wide"
WIDE_INPUT: Final = "x"
WIDE_ELEMENTS: Final = 8 * MIB - 4096
"""An input of almost the largest body; the answer is as large."""

HUNGRY: Final = ("hungry-a", "hungry-b")
HUNGRY_INPUT: Final = "x"
"""Two models of which each needs all of the budget. Their input is of shape (1, 1)."""

_OPSET: Final = 17
_WIDE_BUDGET_BYTES: Final = 1200 * MIB
_LEAST_HUNGER_BYTES: Final = 8 * MIB


@unique
class Site(Enum):
    """What an image holds beside the quiet client's model, and the budget of all."""

    PLAIN = "nothing"
    WIDE = "a model whose answers are as large as its requests"
    SCARCE = "two models that each need the budget of all"


@dataclass(frozen=True, slots=True)
class Companions:
    """What an image gets beside a model.

    Attributes:
        folders: partitioned models.
        budget_bytes: of all models together; 0: the largest one of a single model.
    """

    folders: tuple[ModelFolder, ...] = ()
    budget_bytes: int = 0


def companions(site: Site, neighbour_budget_bytes: int, place: Path) -> Companions:
    """Makes and partitions the models of a site.

    Args:
        site: which.
        neighbour_budget_bytes: what the quiet client's model was planned for.
        place: an existing folder for them.
    """
    return _MAKERS[site](neighbour_budget_bytes, place)


def ordinary_requests(site: Site) -> list[tuple[str, dict[str, Array]]]:
    """Gives what the models of a site are asked before an attack: id and inputs.

    What they need for the largest ordinary request isn't counted as the attack's.
    """
    if site is Site.WIDE:
        return [(WIDE, {WIDE_INPUT: np.zeros(WIDE_ELEMENTS, np.float32)})]
    if site is Site.SCARCE:
        return [(name, {HUNGRY_INPUT: np.zeros((1, 1), np.float32)}) for name in HUNGRY]
    return []


def _none(_neighbour_budget_bytes: int, _place: Path) -> Companions:
    return Companions()


def _wide(_neighbour_budget_bytes: int, place: Path) -> Companions:
    relu = Operator("relu", "Relu", (WIDE_INPUT,), ("y",), {})
    network = _network(WIDE, (relu,), ("n",), {})
    folder = _folder(network, {}, place, {"n": WIDE_ELEMENTS})
    return Companions((folder,), _WIDE_BUDGET_BYTES)


def _scarce(neighbour_budget_bytes: int, place: Path) -> Companions:
    """Weights of the neighbour's whole budget: planned whole, a model then needs more than it."""
    elements = max(neighbour_budget_bytes, _LEAST_HUNGER_BYTES) // 4
    weights = {"w": np.random.default_rng(0).random((1, elements), dtype=np.float32)}
    operators = (
        Operator("product", "MatMul", (HUNGRY_INPUT, "w"), ("z",), {}),
        Operator("most", "ReduceMax", ("z",), ("y",), {"axes": [1], "keepdims": 1}),
    )
    networks = [_network(name, operators, (1, 1), {"w": (1, elements)}) for name in HUNGRY]
    return Companions(tuple(_folder(each, weights, place, {}) for each in networks))


def _network(
    name: str,
    operators: tuple[Operator, ...],
    shape: tuple[int | str, ...],
    weights: Mapping[str, tuple[int, ...]],
) -> Network:
    inputs, outputs = (
        (TensorSpec(value, "float32", shape),) for value in (operators[0].inputs[0], "y")
    )
    return Network(name, _OPSET, inputs, outputs, operators, weights, {})


def _folder(
    network: Network, weights: Mapping[str, Array], place: Path, dimensions: Mapping[str, int]
) -> ModelFolder:
    source = place / f"{network.name}.source" / MODEL_FILE
    source.parent.mkdir()
    write_network(network, weights, source)
    cut = Cut(count=1, dimensions=dimensions)
    return partitioned(Subject(network.name, source), cut, place / network.name)


_MAKERS: Final[Mapping[Site, Callable[[int, Path], Companions]]] = {
    Site.PLAIN: _none,
    Site.WIDE: _wide,
    Site.SCARCE: _scarce,
}
