"""A model is checked, optimised as a whole, tiled and measured before it is planned."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.cpu import ANY, this_cpu
from app.engine import WholeModel
from app.errors import InputError
from app.manifest import OPTIMIZATIONS
from tests import models
from tests.graph import Graph
from tools.errors import ModelError
from tools.graph.extract import save_model
from tools.planner.planner import plan_for_count
from tools.preparation import prepare, tile_size


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    return models.save(models.classifier(), tmp_path / "m.onnx")


@pytest.mark.parametrize("optimization", OPTIMIZATIONS)
def test_every_size_is_known(classifier: Path, optimization: str) -> None:
    """onnxruntime's own operators have no shape inference; they are looked at instead."""
    found = prepare(classifier, optimization, {"batch": 3}, tile_bytes=None)
    assert found.summary.unsized() == ()
    assert found.optimization == optimization
    assert found.cpu == (this_cpu() if optimization == "all" else ANY)
    sizes = {
        node.op_type: found.summary.value_bytes(node.outputs[0]) for node in found.summary.nodes
    }
    conv = sizes.get("FusedConv", sizes.get("Conv"))
    # Blocked convolutions fill their 8 channels up to a block of 16 on some CPUs.
    channels = {8, 16} if optimization == "all" else {8}
    assert conv in {3 * count * 8 * 8 * 4 for count in channels}


def test_optimising_fuses_before_anything_is_cut(classifier: Path) -> None:
    plain = prepare(classifier, "none", {}, tile_bytes=None).summary
    fused = prepare(classifier, "extended", {}, tile_bytes=None).summary
    assert len(fused.nodes) < len(plain.nodes)
    assert (fused.inputs, fused.outputs) == (plain.inputs, plain.outputs)


@pytest.mark.parametrize("optimization", OPTIMIZATIONS)
def test_what_was_prepared_computes_what_the_model_does(
    classifier: Path, optimization: str, tmp_path: Path
) -> None:
    found = prepare(classifier, optimization, {}, tile_bytes=32 * 1024)
    save_model(found.model, tmp_path / "prepared.onnx")
    inputs = models.inputs_for(models.classifier())
    expected = WholeModel(classifier, "none").run(inputs)["scores"]
    actual = WholeModel(tmp_path / "prepared.onnx", "none").run(inputs)["scores"]
    assert abs(actual - expected).max() < 1e-5
    if optimization == "none":
        assert actual.tobytes() == expected.tobytes()


def test_unoptimised_is_left_alone(classifier: Path) -> None:
    found = prepare(classifier, "none", {}, tile_bytes=None)
    names = [node.op_type for node in found.summary.nodes]
    assert names == [node.op_type for node in models.classifier().graph.node]


def test_tiles_are_no_larger_than_asked_where_they_can_be(tmp_path: Path) -> None:
    path = models.save(models.wide_chain(2, 256), tmp_path / "m.onnx")
    whole = prepare(path, "none", {}, tile_bytes=None).summary
    tiled = prepare(path, "none", {}, tile_bytes=100 * 1024).summary
    assert max(whole.weight_bytes.values()) == 256 * 1024
    assert max(tiled.weight_bytes.values()) <= 180 * 1024
    assert sum(tiled.weight_bytes.values()) == sum(whole.weight_bytes.values())


def test_plan_says_what_was_done(classifier: Path) -> None:
    found = prepare(classifier, "extended", {}, tile_bytes=4096)
    plan = found.plan(plan_for_count(found.summary, 2))
    assert (plan.optimization, plan.cpu, plan.tile_bytes) == ("extended", ANY, 4096)


@pytest.mark.parametrize("optimization", OPTIMIZATIONS)
def test_symbolic_dimensions_stay_symbolic(classifier: Path, optimization: str) -> None:
    """What was seen in one request doesn't hold for every request."""
    found = prepare(classifier, optimization, {"batch": 3}, tile_bytes=None)
    shapes = [spec.shape for name, spec in found.summary.values.items() if name != "image"]
    assert all(isinstance((shape or (0,))[0], str) for shape in shapes)


def test_unknown_dimension(classifier: Path) -> None:
    with pytest.raises(InputError, match="no dimension of that name"):
        prepare(classifier, "extended", {"time": 3}, tile_bytes=None)


def test_model_that_onnxruntime_refuses(tmp_path: Path) -> None:
    graph = Graph()
    graph.node("MatMul", graph.input("x", ["a", "b"]), graph.input("z", ["c", "d"]), out="y")
    graph.output("y", ["a", "d"])
    model = graph.model()
    model.opset_import[0].version = 99
    with pytest.raises(ModelError):
        prepare(models.save(model, tmp_path / "m.onnx"), "extended", {}, tile_bytes=None)


@pytest.mark.parametrize(
    ("budget", "size"),
    [(1, 64 << 10), (6 << 20, 1 << 20), (85 << 20, 12 << 20), (1 << 40, 12 << 20)],
)
def test_tile_size(budget: int, size: int) -> None:
    assert tile_size(budget) == size
