from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.objects import TAG_BYTES
from tests import folders
from tests.unit.tools.planner.graphs import GRAPH
from tools.errors import ModelError
from tools.model_folder import ModelFolder
from tools.planner.plan import read_plan
from tools.planner.planner import plan_for_count


def test_text_is_deterministic_and_ends_with_a_newline(chain_folder: ModelFolder) -> None:
    text = (chain_folder.path / "plan.json").read_text()
    assert text == chain_folder.plan.to_text()
    assert text.endswith("}\n")
    assert [p.file for p in chain_folder.plan.partitions] == [f"00{i}.onnx" for i in range(4)]


def first(plan: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = plan["partitions"][0]
    return found


EDITS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "other format": (lambda p: p.update(format=1), "plan.format"),
    "unknown field": (lambda p: p.update(extra=1), "unknown field"),
    "no partitions": (lambda p: p.update(partitions=[]), "at least one partition"),
    "reordered": (lambda p: p["partitions"].reverse(), "edited or reordered"),
    "one missing": (lambda p: p["partitions"].pop(1), "edited or reordered"),
    "gap": (lambda p: first(p).update(nodes=[0, 2]), "edited or reordered"),
    "empty partition": (lambda p: first(p).update(nodes=[0, 0]), "edited or reordered"),
    "nodes not two": (lambda p: first(p).update(nodes=[0]), "two whole numbers"),
    "nodes not whole": (lambda p: first(p).update(nodes=[0, True]), "two whole numbers"),
    "file outside": (lambda p: first(p).update(file="../x.onnx"), "file"),
    "model elsewhere": (lambda p: p["model"].update(file="/etc/passwd"), "file"),
    "no digest": (lambda p: first(p).update(sha256=""), "64 hex digits"),
    "unknown optimisation": (lambda p: p.update(optimization="fast"), "optimization"),
    "unknown CPU": (lambda p: p.update(cpu="sparc"), "cpu"),
    "tiles of nothing": (lambda p: p.update(tile_bytes=0), "tile_bytes"),
    "no tiles": (lambda p: p.pop("tile_bytes"), "tile_bytes"),
    "negative time": (lambda p: first(p).update(run_ns=-1), "run_ns"),
    "dimension 0": (lambda p: p.update(dimensions={"n": 0}), "dimensions"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_edited_plan(chain_folder: ModelFolder, tmp_path: Path, edit: str) -> None:
    path = folders.copy(chain_folder.path, tmp_path / "chain") / "plan.json"
    change, said = EDITS[edit]
    folders.edit_json(path, change)
    with pytest.raises(ModelError, match=said) as error:
        read_plan(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(("content", "said"), [(None, "writes it"), (b"{", "not JSON")])
def test_file_that_is_no_plan(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "plan.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=said):
        read_plan(path)


def test_budget_of_a_counted_plan_is_the_least_it_needs() -> None:
    plan = plan_for_count(GRAPH, 4)
    structures = sum(each.session_bytes for each in plan.partitions)
    weights = max(each.weights_bytes for each in plan.partitions)
    working = max(each.boundary_bytes + each.activation_bytes for each in plan.partitions)
    chunk = plan.chunk_bytes + TAG_BYTES  # small weights are loaded by one thread
    assert plan.budget_bytes == structures + weights + working + chunk
    assert json.loads(plan.to_text())["budget_bytes"] == plan.budget_bytes
