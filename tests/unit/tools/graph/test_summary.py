from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from app.errors import InputError
from app.tensors import TensorSpec
from tests import models
from tests.graph import WIDTH
from tools.errors import ModelError
from tools.graph.load import load_model
from tools.graph.summary import summarize
from tools.planner.summary import GraphSummary


def summary(model: onnx.ModelProto, tmp_path: Path, **dimensions: int) -> GraphSummary:
    return summarize(load_model(models.save(model, tmp_path / "m.onnx")), dimensions)


def test_values_and_weights(tmp_path: Path) -> None:
    found = summary(models.shared_weight(), tmp_path)
    assert found.values["x"] == TensorSpec("x", "float32", ("batch", WIDTH))
    assert found.weight_bytes["shared"] == 4 * WIDTH**2
    readers = [node.name for node in found.nodes if "shared" in node.weights]
    assert len(readers) == 2
    assert all("shared" not in node.inputs for node in found.nodes)


@pytest.mark.parametrize("build", [models.branches, models.loop])
def test_what_a_body_captures_is_read_by_its_node(
    tmp_path: Path, build: Callable[[], onnx.ModelProto]
) -> None:
    found = summary(build(), tmp_path)
    [node] = [each for each in found.nodes if each.op_type in ("If", "Loop")]
    assert "captured" in node.weights
    made_before = {name for each in found.nodes for name in each.outputs}
    assert made_before & set(node.inputs)


def test_sizes_of_dimensions(tmp_path: Path) -> None:
    assert summary(models.chain(), tmp_path).value_bytes("x") == 128
    assert summary(models.chain(), tmp_path, batch=4).value_bytes("x") == 512
    with pytest.raises(InputError, match=r"--dim bach: .* it has batch"):
        summary(models.chain(), tmp_path, bach=4)


def test_sequence_has_no_description(tmp_path: Path) -> None:
    found = summary(models.sequence(), tmp_path)
    [name] = [n.outputs[0] for n in found.nodes if n.op_type == "SequenceConstruct"]
    assert name not in found.values
    assert name in found.unsized()


@pytest.mark.parametrize("build", [models.sequence_output, models.sequence_input])
def test_input_or_output_that_is_no_tensor(
    tmp_path: Path, build: Callable[[], onnx.ModelProto]
) -> None:
    with pytest.raises(ModelError, match=r"input or output '[xy]' is of Sequence"):
        summary(build(), tmp_path)


def test_left_out_input_is_not_read(tmp_path: Path) -> None:
    found = summary(models.optional_input(), tmp_path)
    assert all("" not in node.inputs for node in found.nodes)
