"""The main law: partitions give bit for bit what the whole model gives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.bundle import BundleReader, read_manifest
from app.engine import OrtEngine, WholeModel
from app.errors import InputError
from app.manifest import OPTIMIZATIONS
from app.runner import Reader, Runner
from tests import folders, models
from tests.unusual_models import UNUSUAL
from tools.accuracy.difference import compare
from tools.accuracy.location import write_cut_graph
from tools.accuracy.readers import FolderReader
from tools.bundling.writer import write_bundle
from tools.errors import NoFeasiblePlanError
from tools.model_folder import ModelFolder
from tools.planner.planner import OBJECTIVES

UNCUTTABLE = ("strings",)
"""Optimised, it is one operator."""

UNPLANNABLE = ("sequence",)
"""Its planned size is of a batch of one, but two sequences of one are joined."""

PLENTY = 4 << 20
"""Keeps everything in memory."""


@dataclass(frozen=True)
class How:
    """How a runner runs."""

    budget_bytes: int
    batch: int
    overlap: bool
    lock_step: int = 1


def _bundle_reader(folder: ModelFolder, target: Path, lanes: int = 1) -> BundleReader:
    write_bundle(folder, folders.KEYS, target, progress=lambda _: None)
    manifest = read_manifest(target, folders.KEYS.owner.public_key(), minimum_version=1)
    return BundleReader(target, manifest, folders.KEYS.model_key, lanes=lanes)


def check_exact(
    model: onnx.ModelProto,
    whole: Path,
    folder: ModelFolder,
    reader: Reader,
    how: How,
) -> None:
    """Compares partitions with a whole graph, three times in a row.

    The first time loads everything, the second finds what is kept, the third what was read ahead.
    """
    requests = [models.inputs_for(model, how.batch, seed) for seed in range(how.lock_step)]
    reference = WholeModel(whole, "none")
    expected = [reference.run(inputs) for inputs in requests]
    plan = folder.plan
    runner = Runner(
        reader,
        OrtEngine(),
        how.budget_bytes,
        plan.inputs,
        plan.outputs,
        lock_step=how.lock_step,
        overlap=how.overlap,
    )
    try:
        for _ in range(3):
            results = runner.run_batch(requests)
            for right, result in zip(expected, results, strict=True):
                assert right.keys() == result.outputs.keys()
                assert compare(right, result.outputs).identical
                assert result.peak_bytes <= how.budget_bytes
    finally:
        runner.close()


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("name", models.MODELS)
def test_every_shape_of_graph_at_every_count(name: str, overlap: bool, tmp_path: Path) -> None:
    model = models.MODELS[name]()
    limit = _most_partitions(model, tmp_path)
    assert limit >= 2, "a model that can't be cut tests nothing"
    for count in [limit] if models.MODELS[name] in UNUSUAL else range(1, limit + 1):
        folder = folders.make_folder(model, tmp_path / f"{count}", count=count, overlap=overlap)
        reader = _bundle_reader(folder, tmp_path / f"{count}.bundle")
        exact = name not in UNPLANNABLE
        budget_bytes = folder.plan.peak_bytes if exact else PLENTY
        whole = folder.model_path
        check_exact(model, whole, folder, reader, How(budget_bytes, 1, overlap))
        check_exact(model, whole, folder, FolderReader(folder), How(PLENTY, 3, overlap))


def _most_partitions(model: onnx.ModelProto, tmp_path: Path) -> int:
    with pytest.raises(InputError, match="at most") as error:
        folders.make_folder(model, tmp_path / "too-many", count=1000)
    return int(str(error.value).rsplit("at most ", 1)[1].split()[0])


@settings(max_examples=80)
@given(
    models.random_models(),
    st.integers(1_000_000, 3_500_000),
    st.sampled_from([1, 4]),
    st.sampled_from(OBJECTIVES),
    st.tuples(st.booleans(), st.sampled_from([None, 1 << 11])),
)
def test_random_models_within_random_budgets(
    model: onnx.ModelProto,
    budget_bytes: int,
    batch: int,
    objective: str,
    options: tuple[bool, int | None],
) -> None:
    """With tiles too: the reference is always the model as it was before."""
    overlap, tile_bytes = options
    with TemporaryDirectory() as scratch:

        def plan(budget_bytes: int) -> ModelFolder:
            return folders.make_folder(
                model,
                Path(scratch) / "model",
                budget_bytes=budget_bytes,
                objective=objective,
                overlap=overlap,
                tile_bytes=tile_bytes,
            )

        try:
            folder = plan(budget_bytes)
        except NoFeasiblePlanError as error:
            folder = plan(error.required_bytes)
        reader = _bundle_reader(folder, Path(scratch) / "bundle")
        how = How(folder.plan.budget_bytes * batch, batch, overlap)
        check_exact(model, folder.model_path, folder, reader, how)


@settings(max_examples=40)
@given(
    models.random_models(),
    st.integers(1, 12),
    st.integers(0, 100_000),
    st.integers(1, 4),
    st.booleans(),
)
def test_any_budget_any_batch_the_same_answers(
    model: onnx.ModelProto, count: int, more_bytes: int, lock_step: int, overlap: bool
) -> None:
    """More room pins more, more requests share a load; neither changes a bit."""
    with TemporaryDirectory() as scratch:
        try:
            folder = folders.make_folder(model, Path(scratch) / "model", count=count)
        except InputError:
            folder = folders.make_folder(model, Path(scratch) / "model", count=1)
        reader = _bundle_reader(folder, Path(scratch) / "bundle", lanes=2)
        working_bytes = max(
            each.boundary_bytes + each.activation_bytes for each in folder.plan.partitions
        )
        budget_bytes = folder.plan.peak_bytes + (2 << 20) + lock_step * working_bytes + more_bytes
        how = How(budget_bytes, 1, overlap, lock_step)
        check_exact(model, folder.model_path, folder, reader, how)


@pytest.mark.parametrize("optimization", OPTIMIZATIONS)
@pytest.mark.parametrize("name", sorted(set(models.MODELS) - set(UNCUTTABLE)))
def test_cuts_of_an_optimised_graph_are_exact(name: str, optimization: str, tmp_path: Path) -> None:
    """The reference is the whole graph that was cut: optimised, not the model as it was."""
    model = models.MODELS[name]()
    folder = folders.make_folder(model, tmp_path / "m", count=2, optimization=optimization)
    whole = write_cut_graph(folder, tmp_path / "whole.onnx")
    reader = _bundle_reader(folder, tmp_path / "m.bundle")
    check_exact(model, whole, folder, reader, How(PLENTY, 1, overlap=True))


@settings(max_examples=30)
@given(models.random_models(), st.booleans())
def test_prediction_covers_what_is_accounted(model: onnx.ModelProto, overlap: bool) -> None:
    """A request of the planned size fits in the predicted peak, to the byte."""
    with TemporaryDirectory() as scratch:
        folder = folders.make_folder(model, Path(scratch) / "model", count=1, overlap=overlap)
        reader = _bundle_reader(folder, Path(scratch) / "bundle")
        how = How(folder.plan.peak_bytes, 1, overlap)
        check_exact(model, folder.model_path, folder, reader, how)
