from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from tests import folders, models
from tools.errors import ModelError
from tools.graph.extract import write_partition, write_with_outputs
from tools.graph.load import load_model
from tools.model_folder import ModelFolder


def test_partitions_hold_every_node_once_and_are_valid(chain_folder: ModelFolder) -> None:
    names = []
    for partition in chain_folder.plan.partitions:
        path = chain_folder.partition_path(partition.index)
        onnx.checker.check_model(str(path), full_check=True)
        graph = onnx.load(path).graph
        names += [node.name for node in graph.node]
        assert [value.name for value in graph.input] == [s.name for s in partition.inputs]
        assert [value.name for value in graph.output] == [s.name for s in partition.outputs]
    whole = load_model(chain_folder.model_path)
    assert names == [node.name for node in whole.graph]


def test_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    one, two = (
        folders.make_folder(models.residual(), tmp_path / name / "m", count=4)
        for name in ("a", "b")
    )
    assert folders.files(one.path) == folders.files(two.path)


def test_plan_of_another_model(chain_folder: ModelFolder, tmp_path: Path) -> None:
    """A partition whose boundary holds other nodes than planned isn't written as if it did."""
    model = load_model(chain_folder.model_path)
    first = chain_folder.plan.partitions[0]
    with pytest.raises(ModelError, match="expected 7 operators of 'tiny', extracted"):
        write_partition(model, replace(first, stop=first.start + 7), tmp_path / "p.onnx")


def test_values_that_are_not_there(tmp_path: Path) -> None:
    model = load_model(models.save(models.chain(), tmp_path / "m.onnx"))
    with pytest.raises(ModelError, match="no value 'nowhere'"):
        write_with_outputs(model, ["y", "nowhere"], tmp_path / "o.onnx")
    assert not (tmp_path / "o.onnx").exists()
