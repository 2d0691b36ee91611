"""The main law: partitions give bit for bit what the whole model gives."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.bundle import BundleReader, read_manifest
from app.engine import OrtEngine, WholeModel
from app.errors import InputError
from app.runner import Reader, Runner
from tests import folders, models
from tools.accuracy.difference import compare
from tools.accuracy.readers import FolderReader
from tools.bundling.writer import write_bundle
from tools.errors import NoFeasiblePlanError
from tools.model_folder import ModelFolder

UNPLANNABLE = ("sequence",)
"""Its planned size is of a batch of one, but two sequences of one are joined."""


def _bundle_reader(folder: ModelFolder, target: Path) -> BundleReader:
    write_bundle(folder, folders.KEYS, target, optimization="none", progress=lambda _: None)
    manifest = read_manifest(target, folders.KEYS.owner.public_key(), minimum_version=1)
    return BundleReader(target, manifest, folders.KEYS.model_key)


def check_exact(
    model: onnx.ModelProto, folder: ModelFolder, reader: Reader, budget_bytes: int, batch: int
) -> int:
    """Compares partitions with the whole model; gives the peak that was accounted."""
    inputs = models.inputs_for(model, batch)
    reference = WholeModel(folder.model_path, "none").run(inputs)
    plan = folder.plan
    result = Runner(reader, OrtEngine(), budget_bytes, plan.inputs, plan.outputs).run(inputs)
    assert reference.keys() == result.outputs.keys()
    assert compare(reference, result.outputs).identical
    return result.peak_bytes


@pytest.mark.parametrize("name", models.MODELS)
def test_every_shape_of_graph_at_every_count(name: str, tmp_path: Path) -> None:
    model = models.MODELS[name]()
    limit = _most_partitions(model, tmp_path)
    assert limit >= 2, "a model that can't be cut tests nothing"
    for count in range(1, limit + 1):
        folder = folders.make_folder(model, tmp_path / f"{count}", count=count)
        reader = _bundle_reader(folder, tmp_path / f"{count}.bundle")
        exact = name not in UNPLANNABLE
        budget_bytes = folder.plan.peak_bytes if exact else 1 << 20
        check_exact(model, folder, reader, budget_bytes, batch=1)
        check_exact(model, folder, FolderReader(folder), 1 << 20, batch=3)


def _most_partitions(model: onnx.ModelProto, tmp_path: Path) -> int:
    with pytest.raises(InputError, match="at most") as error:
        folders.make_folder(model, tmp_path / "too-many", count=1000)
    return int(str(error.value).rsplit("at most ", 1)[1].split()[0])


@settings(max_examples=60)
@given(models.random_models(), st.integers(1, 200_000), st.sampled_from([1, 4]))
def test_random_models_within_random_budgets(
    model: onnx.ModelProto, budget_bytes: int, batch: int
) -> None:
    with TemporaryDirectory() as scratch:
        target = Path(scratch) / "model"
        try:
            folder = folders.make_folder(model, target, budget_bytes=budget_bytes)
        except NoFeasiblePlanError as error:
            folder = folders.make_folder(model, target, budget_bytes=error.required_bytes)
        reader = _bundle_reader(folder, Path(scratch) / "bundle")
        check_exact(model, folder, reader, folder.plan.budget_bytes * batch, batch)


@settings(max_examples=30)
@given(models.random_models())
def test_prediction_covers_what_is_accounted(model: onnx.ModelProto) -> None:
    """A request of the planned size fits in the predicted peak, to the byte."""
    with TemporaryDirectory() as scratch:
        folder = folders.make_folder(model, Path(scratch) / "model", count=1)
        reader = _bundle_reader(folder, Path(scratch) / "bundle")
        peak_bytes = check_exact(model, folder, reader, folder.plan.peak_bytes, batch=1)
        assert peak_bytes <= folder.plan.peak_bytes
