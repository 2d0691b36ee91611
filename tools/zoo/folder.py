"""A zoo model's folder: model.onnx, model.json, and recipe.json, which tells whether it is current.

The same recipe with the same versions of numpy and onnxruntime on the same class of CPU gives
the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tools.errors import ModelError
from tools.files import file_digest, new_folder
from tools.graph.build import write_network
from tools.model_folder import CARD_FILE, CARD_FORMAT, MODEL_FILE
from tools.zoo.calibration import calibrate
from tools.zoo.inputs import KINDS, example_inputs
from tools.zoo.registry import Entry
from tools.zoo.weights import initial_weights

RECIPE: Final = 1
"""Raised when a definition, a distribution or the calibration changes."""
RECIPE_FILE: Final = "recipe.json"
CALIBRATION_INPUTS: Final = 2
"""Of each kind."""


def is_current(entry: Entry, folder: Path) -> bool:
    """Tells whether a folder holds this model, whole, as this recipe makes it."""
    try:
        written = json.loads((folder / RECIPE_FILE).read_text(encoding="utf-8"))
        return bool(written == _recipe(entry, folder))
    except (OSError, ValueError):
        return False


def build(entry: Entry, parent: Path, progress: Callable[[int], None]) -> Path:
    """Makes a model and writes its folder whole.

    Args:
        entry: which one.
        parent: the folder that the models' folders are in.
        progress: called with the number of operators done.

    Returns:
        The model's folder.

    Raises:
        ModelError: when something else stands in the folder's place, or the model can't be made.
    """
    target = parent / entry.name
    if target.exists() and not (target / RECIPE_FILE).exists():
        raise ModelError(f"{target}: exists and isn't a zoo model's folder, so it isn't replaced")
    network = entry.define()
    weights = initial_weights(network)
    inputs = [
        example_inputs(network.inputs, entry.ranges, kind, f"calibration {number}")
        for kind in KINDS
        for number in range(CALIBRATION_INPUTS)
    ]
    calibrate(network, weights, inputs, progress)
    with new_folder(target) as work:
        write_network(network, weights, work / MODEL_FILE)
        _write_json(work / CARD_FILE, _card(entry))
        _write_json(work / RECIPE_FILE, _recipe(entry, work))
    return target


def _recipe(entry: Entry, folder: Path) -> dict[str, object]:
    return {
        "recipe": RECIPE,
        "name": entry.name,
        "parameters": entry.parameters,
        "model_sha256": file_digest(folder / MODEL_FILE),
    }


def _card(entry: Entry) -> dict[str, object]:
    return {
        "format": CARD_FORMAT,
        "id": entry.name,
        "version": RECIPE,
        "title": f"{entry.title}; seeded weights",
        "task": "tensors",
        "labels": [],
        "scores": entry.scores,
        "preprocessing": None,
    }


def _write_json(path: Path, content: dict[str, object]) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
