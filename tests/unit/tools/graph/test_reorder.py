"""Another order, the same results."""

from __future__ import annotations

from pathlib import Path

import onnx

from app.engine import WholeModel
from tests import models
from tools.graph.extract import save_model
from tools.graph.load import load_model
from tools.graph.reorder import reorder
from tools.graph.summary import summarize
from tools.planner.order import reordered
from tools.planner.summary import NodeSummary


def test_results_stay_the_same_bit_for_bit(tmp_path: Path) -> None:
    source = models.diamond()
    path = models.save(source, tmp_path / "m.onnx")
    model = load_model(path)
    summary = summarize(model)
    order = last_topological(summary.nodes)
    assert order != list(range(len(order)))
    reorder(model, order)
    assert summarize(model) == reordered(summary, order)
    save_model(model, tmp_path / "reordered.onnx")
    onnx.checker.check_model(onnx.load(tmp_path / "reordered.onnx"))
    inputs = models.inputs_for(source)
    expected = WholeModel(path, "none").run(inputs)
    found = WholeModel(tmp_path / "reordered.onnx", "none").run(inputs)
    assert {k: v.tobytes() for k, v in found.items()} == {
        k: v.tobytes() for k, v in expected.items()
    }


def last_topological(nodes: tuple[NodeSummary, ...]) -> list[int]:
    """The order that takes the latest operator that is ready, every time."""
    made = {name: i for i, node in enumerate(nodes) for name in node.outputs}
    needs = [{made[n] for n in node.inputs if n in made} for node in nodes]
    order: list[int] = []
    while len(order) < len(nodes):
        left = [i for i in range(len(nodes)) if i not in order and needs[i] <= set(order)]
        order.append(left[-1])
    return order
