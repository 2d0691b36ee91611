"""Regions tiled by rows: the same bits, less memory, and what can't be helped stays as it is."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.engine import WholeModel
from tests import models
from tests.graph import Graph
from tools.graph.extract import save_model
from tools.graph.load import load_model
from tools.graph.summary import summarize
from tools.graph.tiling.region import Nodes
from tools.graph.tiling.regions import tile_regions
from tools.graph.tiling.search import choose
from tools.planner.liveness import Liveness


def conv(graph: Graph, value: str, channels: int, filters: int, **attributes: Any) -> str:
    weights = graph.weight(filters, channels, 3, 3), graph.weight(filters)
    return graph.node("Relu", graph.node("Conv", value, *weights, **attributes))


def hourglass(side: int = 48) -> onnx.ModelProto:
    """Down and up again, with a skip from the first level that lives through all of it."""
    graph = Graph()
    skip = conv(graph, graph.input("x", [1, 3, side, side]), 3, 16, pads=[1] * 4)
    value = graph.node("MaxPool", skip, kernel_shape=[2, 2], strides=[2, 2])
    for _ in range(3):
        value = conv(graph, conv(graph, value, 16, 16, pads=[1] * 4), 16, 16, pads=[1] * 4)
    up = graph.node("ConvTranspose", value, graph.weight(16, 16, 2, 2), strides=[2, 2])
    joined = graph.node("Concat", skip, up, axis=1)
    graph.node("Conv", joined, graph.weight(2, 32, 3, 3), pads=[1] * 4, out="y")
    graph.output("y", [1, 2, side, side])
    return graph.model()


def peak(path: Path) -> int:
    live = Liveness(summarize(load_model(path)))
    count = len(live.graph.nodes)
    return max(live.crossing_bytes(i) + live.activation_bytes(i, i + 1) for i in range(count))


def check(model: onnx.ModelProto, folder: Path, room_bytes: int) -> tuple[int, int]:
    """Tiles and compares all bits; gives the peaks before and after."""
    whole = models.save(model, folder / "whole.onnx")
    loaded = load_model(whole)
    seams = tile_regions(loaded, summarize(loaded), room_bytes)
    assert list(seams) == sorted(set(seams))
    assert all(0 < seam < len(loaded.graph) for seam in seams)
    save_model(loaded, folder / "tiled.onnx")
    onnx.checker.check_model(onnx.load(folder / "tiled.onnx"), full_check=True)
    inputs = models.inputs_for(model)
    expected = WholeModel(whole, "none").run(inputs)
    actual = WholeModel(folder / "tiled.onnx", "none").run(inputs)
    assert list(expected) == list(actual)
    for name, array in expected.items():
        assert actual[name].shape == array.shape
        assert actual[name].tobytes() == array.tobytes()
    return peak(whole), peak(folder / "tiled.onnx")


def test_a_skip_is_made_again_where_it_is_read(tmp_path: Path) -> None:
    model = hourglass()
    skip_bytes = 16 * 48 * 48 * 4
    before, after = check(model, tmp_path, skip_bytes)
    assert before > 2 * skip_bytes
    assert after < skip_bytes, "less than the skip alone, which has to be let go"


def test_room_enough_changes_nothing(tmp_path: Path) -> None:
    loaded = load_model(models.save(hourglass(), tmp_path / "m.onnx"))
    names = [node.name for node in loaded.graph]
    assert tile_regions(loaded, summarize(loaded), 1 << 30) == ()
    assert [node.name for node in loaded.graph] == names


def test_same_model_and_room_give_the_same_graph(tmp_path: Path) -> None:
    for name in ("one", "two"):
        loaded = load_model(models.save(hourglass(), tmp_path / "m.onnx"))
        tile_regions(loaded, summarize(loaded), 150_000)
        save_model(loaded, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize("op", ["GlobalAveragePool", "Softplus"])
def test_operators_without_a_form_end_a_region(op: str, tmp_path: Path) -> None:
    graph = Graph()
    value = conv(graph, graph.input("x", [1, 3, 40, 40]), 3, 16)
    value = graph.node(op, conv(graph, value, 16, 16))
    graph.node("Relu", value, out="y")
    graph.output("y", [1, 16, None, None])
    loaded = load_model(models.save(graph.model(), tmp_path / "m.onnx"))
    nodes = Nodes(loaded.graph, Liveness(summarize(loaded)))
    for region in choose(nodes, 250_000).regions:
        inside = {nodes.nodes[step.node].op_type for tile in region.tiles for step in tile}
        assert op not in inside
    check(graph.model(), tmp_path, 250_000)


def test_a_model_from_before_slice_took_inputs(tmp_path: Path) -> None:
    graph = Graph()
    value = conv(graph, graph.input("x", [1, 3, 40, 40]), 3, 16)
    graph.node("MaxPool", value, out="y", kernel_shape=[2, 2], strides=[2, 2])
    graph.output("y", [1, 16, 19, 19])
    before, after = check(graph.model(opset=9), tmp_path, 120_000)
    assert after < before


def test_sequences_are_tiled_by_position(tmp_path: Path) -> None:
    graph = Graph()
    value = graph.input("x", [1, 64, 32])
    inner = graph.node("Relu", graph.node("MatMul", value, graph.weight(32, 256)))
    value = graph.node("Add", value, graph.node("MatMul", inner, graph.weight(256, 32)))
    scales = [graph.constant(np.ones(32, np.float32)) for _ in range(2)]
    graph.node("LayerNormalization", value, *scales, out="y", axis=-1)
    graph.output("y", [1, 64, 32])
    before, after = check(graph.model(), tmp_path, 60_000)
    assert after < before / 2


@st.composite
def networks(draw: st.DrawFn) -> onnx.ModelProto:
    graph = Graph(draw(st.integers(0, 99)))
    made = [(graph.input("x", [1, 3, 37, 20]), 3, 37)]
    for _ in range(draw(st.integers(2, 9))):
        value, channels, side = draw(st.sampled_from(made[-3:]))
        kind = draw(st.sampled_from(["conv", "strided", "pool", "relu", "concat", "transposed"]))
        same = [each for each in made if each[2] == side]
        if kind == "conv":
            made.append((conv(graph, value, channels, 8, pads=[1] * 4), 8, side))
        elif kind == "strided" and side > 8:
            out = conv(graph, value, channels, 8, pads=[1] * 4, strides=[2, 1])
            made.append((out, 8, -(-side // 2)))
        elif kind == "pool" and side > 8:
            out = graph.node("MaxPool", value, kernel_shape=[3, 1], strides=[2, 1])
            made.append((out, channels, (side - 3) // 2 + 1))
        elif kind == "concat":
            other = draw(st.sampled_from(same))
            both = graph.node("Concat", value, other[0], axis=1)
            made.append((both, channels + other[1], side))
        elif kind == "transposed" and side < 60:
            weight = graph.weight(channels, 4, 2, 1)
            made.append((graph.node("ConvTranspose", value, weight, strides=[2, 1]), 4, side * 2))
        else:
            made.append((graph.node("LeakyRelu", value), channels, side))
    last, channels, side = made[-1]
    graph.node("Relu", last, out="y")
    graph.output("y", [1, channels, side, 20])
    return graph.model()


@settings(max_examples=60)
@given(networks(), st.sampled_from([8_000, 30_000, 60_000, 100_000, 200_000]))
def test_random_networks_in_any_room_give_the_same_bits(
    model: onnx.ModelProto, room_bytes: int
) -> None:
    with TemporaryDirectory() as scratch:
        check(model, Path(scratch), room_bytes)
