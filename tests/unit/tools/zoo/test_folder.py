from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.card import read_purpose
from app.fields import Fields
from tests.unit.tools.zoo.small import tiny_network
from tools.errors import ModelError
from tools.zoo.folder import build, is_current
from tools.zoo.registry import Entry

ENTRY = Entry("tiny", "Tiny", tiny_network, 500)


def quietly(done: int) -> None:
    """Takes the progress and shows nothing."""


def test_two_builds_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = (build(ENTRY, tmp_path / name, quietly) for name in ("a", "b"))
    assert [path.name for path in sorted(first.iterdir())] == [
        "model.json",
        "model.onnx",
        "recipe.json",
    ]
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes()


def test_a_folder_is_current_until_its_model_or_recipe_changes(tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    assert not is_current(ENTRY, folder)
    build(ENTRY, tmp_path, quietly)
    assert is_current(ENTRY, folder)
    recipe = folder / "recipe.json"
    written = recipe.read_text()
    recipe.write_text(json.dumps({**json.loads(written), "recipe": 0}))
    assert not is_current(ENTRY, folder)
    recipe.write_text(written)
    model = folder / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1])
    assert not is_current(ENTRY, folder)


def test_a_build_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    folder = build(ENTRY, tmp_path, quietly)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def stop(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(ENTRY, tmp_path, stop)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert list(tmp_path.iterdir()) == [folder]


def test_a_folder_of_somebody_else_is_not_replaced(tmp_path: Path) -> None:
    mine = tmp_path / "tiny" / "thesis.txt"
    mine.parent.mkdir()
    mine.write_text("years of work")
    with pytest.raises(ModelError, match="isn't a zoo model's folder, so it isn't replaced"):
        build(ENTRY, tmp_path, quietly)
    assert mine.read_text() == "years of work"


def test_the_card_is_one_that_the_appliance_reads(tmp_path: Path) -> None:
    folder = build(ENTRY, tmp_path, quietly)
    card = json.loads((folder / "model.json").read_text())
    purpose = read_purpose(Fields(card, "model"))
    assert purpose.task == "tensors"
    assert purpose.scores == "logits"
