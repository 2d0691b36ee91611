"""Which models are measured, how they are cut, and how they are asked."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from app.errors import NotFoundError
from tests import models
from tools.bench import machine, packed, subjects
from tools.bench.client import Answer, encoded
from tools.bench.results import NOT_AVAILABLE
from tools.bench.subjects import Cut, Subject, encrypted, find_subject, in_budget, partitioned
from tools.errors import NoFeasiblePlanError, ServingError
from tools.serving_client.connection import Reply


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    return Subject("wide", models.save(models.wide_chain(5, 64), tmp_path / "wide" / "model.onnx"))


def test_own_models_are_found_and_unknown_ones_named(tmp_path: Path) -> None:
    assert find_subject("digits", tmp_path).source == subjects.OWN / "digits" / "model.onnx"
    with pytest.raises(NotFoundError, match=r"no model 'nobody'; there are .*digits.*vgg-19"):
        find_subject("nobody", tmp_path)
    assert not any(tmp_path.iterdir()), "nothing is made for a wrong name"


def test_a_budget_that_is_given_is_kept_or_refused(subject: Subject, tmp_path: Path) -> None:
    (folder,) = in_budget(subject, 64 << 20, {tmp_path / "cut": Cut()})
    assert folder.plan.budget_bytes == 64 << 20
    with pytest.raises(NoFeasiblePlanError):
        in_budget(subject, 1024, {tmp_path / "small": Cut()})


def test_a_cut_for_lock_step_is_planned_for_it(subject: Subject, tmp_path: Path) -> None:
    cuts = {tmp_path / "cut": Cut(lock_step=4)}
    for budget in (64 << 20, None):
        (folder,) = in_budget(subject, budget, cuts)
        assert folder.plan.lock_step == 4


def test_a_model_that_no_third_of_itself_can_hold_is_cut_into_a_few(
    subject: Subject, tmp_path: Path
) -> None:
    cuts = {tmp_path / "a": Cut(), tmp_path / "b": Cut(optimization="none")}
    for folder in in_budget(subject, None, cuts):
        assert len(folder.plan.partitions) == subjects.FEW


def test_image_holds_the_bundle_without_its_keys(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = partitioned(subject, Cut(count=2), tmp_path / "cut")
    bundle = encrypted(folder, tmp_path / "bundle")
    asked: list[str] = []
    monkeypatch.setattr(packed, "output_of", lambda words, _purpose: asked.extend(words))
    found = packed.build_image(folder, bundle, tmp_path / "packed", threads=2, max_batch=8)
    assert found.model == "cut"
    options = ("--inference-threads", "--max-batch")
    assert [asked[asked.index(option) + 1] for option in options] == ["2", "8"]
    assert not {"--workers", "--max-delay-us"} & set(asked), "build.sh knows what fits"
    served = tmp_path / "packed" / "bundles" / "cut.bundle"
    assert {path.suffix for path in served.iterdir()} == {".enc", ".json", ".sig"}
    assert all(path.parent == served for path in found.files)
    assert (tmp_path / "packed" / "keys" / "cut.key").read_bytes() == (
        bundle / "bench.key"
    ).read_bytes()


def test_a_request_loses_no_bit() -> None:
    array = np.array([[0.123456, -0.0]], dtype=np.float32)
    request = encoded({"x": array})
    head, tensor = request.body
    assert request.headers == {"Inference-Header-Content-Length": str(len(head))}
    assert bytes(tensor) == array.tobytes()


def test_answer_tells_runtime_and_phases() -> None:
    headers = {"server": "cloister/1.0 (occlum-hw)", "server-timing": "total;dur=2.5, run;dur=1"}
    content = b'{"model_name": "m", "model_version": "1", "outputs": []}'
    good = Answer(Reply(headers, content), 0.1)
    assert good.runtime == "occlum-hw"
    assert good.phases == {"total": 0.0025, "run": 0.001}
    assert good.outputs() == {}
    with pytest.raises(ServingError, match="isn't one to an inference request"):
        Answer(Reply({}, b"{}"), 0.1).outputs()


def test_commit_says_when_there_is_none(tmp_path: Path) -> None:
    assert machine.commit(tmp_path) == NOT_AVAILABLE
    assert shutil.which("git"), "the other tests need it"
    assert machine.machine()["cpu"]
    assert machine.versions()["onnxruntime"] != NOT_AVAILABLE
