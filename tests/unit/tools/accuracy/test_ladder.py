"""Each rung catches what it is there for, and says where."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import onnx
import pytest

from tests import folders, models, served
from tests.graph import Graph
from tests.unit.app.server.clients import identity, serving
from tools.accuracy.deployment import encrypted_reader, running
from tools.accuracy.ladder import climb
from tools.accuracy.remote import Remote
from tools.accuracy.rungs import RUNGS, TLS, ModelReport
from tools.errors import AccuracyError, ModelError
from tools.files import file_digest
from tools.model_folder import ModelFolder, open_folder
from tools.serving_client import Trust


def check(path: Path) -> ModelReport:
    return climb(open_folder(path), lambda _: None)


def results(report: ModelReport) -> list[bool | None]:
    assert [rung.name for rung in report.rungs] == list(RUNGS)
    return [rung.passed for rung in report.rungs]


@pytest.fixture
def folder(classifier_folder: ModelFolder, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return folders.copy(classifier_folder.path, tmp_path / "shapes")


def test_right_model_climbs_to_the_top(folder: Path) -> None:
    steps: list[int] = []
    report = climb(open_folder(folder), steps.append)
    assert report.passed
    assert results(report) == [True] * 4
    assert steps == [1, 2, 3, 4]
    cut, form = report.rungs[1:3]
    assert cut.absolute == form.absolute == 0
    assert cut.differences == (0.0,) * cut.cases
    assert cut.top1_agreement == 1
    assert report.labelled == 2
    assert report.whole_accuracy == report.deployed_accuracy is not None


@pytest.mark.parametrize("name", sorted(set(models.MODELS) - {"heavy_middle"}))
def test_every_shape_of_graph(tmp_path: Path, name: str) -> None:
    path = folders.make_folder(models.MODELS[name](), tmp_path / "m", count=2).path
    report = check(path)
    assert report.passed, [rung.problem for rung in report.rungs]


def test_model_planned_for_a_larger_batch(tmp_path: Path) -> None:
    """The growth of a request is counted from the planned one, not from a batch of one."""
    path = folders.make_folder(
        models.residual(), tmp_path / "m", budget_bytes=12 << 18, dimensions={"batch": 40}
    ).path
    report = check(path)
    assert report.passed, [rung.problem for rung in report.rungs]


def test_model_without_inputs(tmp_path: Path) -> None:
    graph = Graph()
    graph.node("MatMul", graph.weight(40, 40), graph.weight(40, 40), out="y")
    graph.output("y", [40, 40])
    path = folders.make_folder(graph.model(), tmp_path / "m").path
    assert check(path).passed


def test_changed_weight_is_found_with_file_partition_and_tensor(folder: Path) -> None:
    weight = folders.change_weight(folder / "001.onnx")
    report = check(folder)
    assert results(report) == [False, False, None, None]
    cut = report.rungs[1]
    assert "001.onnx: not the file" in report.rungs[0].problem
    assert "partition 1 (001.onnx), operator " in cut.problem
    assert cut.absolute > 0
    assert cut.location is not None
    assert (cut.location.partition, cut.location.file) == (1, "001.onnx")
    assert f"its weight {weight!r} isn't the whole model's" in cut.problem
    assert str(cut.location) in cut.problem
    assert max(cut.differences) == cut.relative


def swap(folder: Path) -> None:
    one, two = (folder / name for name in ("000.onnx", "001.onnx"))
    one.rename(folder / "x")
    two.rename(one)
    (folder / "x").rename(two)


def only_other_bytes(folder: Path) -> None:
    model = onnx.load(folder / "000.onnx")
    model.producer_name = "somebody else"
    onnx.save(model, folder / "000.onnx")


BROKEN: dict[str, tuple[Callable[[Path], object], list[bool | None], str]] = {
    "missing": (lambda f: (f / "002.onnx").unlink(), [False, False, None, None], "002.onnx"),
    "garbage": (
        lambda f: (f / "000.onnx").write_bytes(b"garbage"),
        [False, False, None, None],
        "000.onnx",
    ),
    "swapped": (swap, [False, False, None, None], "000.onnx"),
    "equal but for bytes": (only_other_bytes, [False, True, False, None], "000.onnx"),
    "another whole model": (
        lambda f: (
            models.save(models.classifier(classes=3), f / "model.onnx")
            and folders.change_weight(f / "model.onnx")
        ),
        [False, False, None, None],
        "model.onnx",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_folder(folder: Path, kind: str) -> None:
    spoil, expected, said = BROKEN[kind]
    spoil(folder)
    report = check(folder)
    assert results(report) == expected
    assert not report.passed
    problems = [rung.problem for rung in report.rungs]
    assert any(said in problem for problem in problems)
    assert not any("Traceback" in problem for problem in problems)


def test_whole_model_with_other_inner_names(folder: Path) -> None:
    """Where the difference begins can't be said, and that is said."""
    model = models.classifier()
    for node in model.graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                if name.startswith("v"):
                    names[place] = f"other_{name}"
    models.save(model, folder / "model.onnx")
    folders.change_weight(folder / "model.onnx")
    report = check(folder)
    assert results(report)[:2] == [False, False]
    assert "where can't be said" in report.rungs[1].problem


def test_whole_model_that_does_not_run(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"garbage")
    with pytest.raises(AccuracyError, match=r"model\.onnx: the whole model doesn't run"):
        check(folder)


def test_edited_wiring_is_refused_when_it_is_loaded(folder: Path) -> None:
    folders.edit_json(
        folder / "plan.json", lambda plan: plan["partitions"][1].update(release=["image"])
    )
    report = check(folder)
    assert results(report) == [True, False, None, None]
    assert "partition 1, load: needs ['image']" in report.rungs[1].problem


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ("{", "not JSON"),
        ('{"0.png": 3}', "expected 0 to 2"),
        ('{"9.png": 0}', "no picture '9.png'"),
        ('{"../model.onnx": 0}', "no picture"),
        ("[]", "expected an object"),
    ],
)
def test_labels_that_are_wrong(folder: Path, labels: str, said: str) -> None:
    (folder / "samples" / "labels.json").write_text(labels)
    with pytest.raises(ModelError, match=said):
        check(folder)


def test_folder_without_samples(folder: Path) -> None:
    shutil.rmtree(folder / "samples")
    report = check(folder)
    assert report.passed
    assert (report.labelled, report.whole_accuracy) == (0, None)


def test_a_weight_scaled_before_planning_its_digests_is_still_found(folder: Path) -> None:
    """Files that fit the plan prove nothing about what they compute."""
    weight = folders.change_weight(folder / "001.onnx")
    digest = file_digest(folder / "001.onnx")
    folders.edit_json(
        folder / "plan.json", lambda plan: plan["partitions"][1].update(sha256=digest)
    )
    report = check(folder)
    assert results(report) == [True, False, None, None]
    assert repr(weight) in report.rungs[1].problem


def test_files_that_belong_to_nothing_are_mentioned(folder: Path) -> None:
    (folder / "007.onnx").write_bytes(b"old")
    (folder / "notes").mkdir()
    report = check(folder)
    assert report.passed
    assert report.notes == ("not part of the plan, nothing reads it: 007.onnx, notes",)


@contextmanager
def appliance(path: Path, listed: ModelFolder, growth: int = 3) -> Iterator[Remote]:
    """Serves a folder's partitions under another folder's name."""
    model = open_folder(path)
    with (
        tempfile.TemporaryDirectory() as scratch,
        running(
            model, encrypted_reader(model, Path(scratch) / "b"), growth=growth, overlap=True
        ) as runner,
    ):
        entry = served.Model(
            listed.model_id,
            listed.model_version,
            listed.card,
            lambda inputs: runner.run(inputs).outputs,
        )
        application = served.application(served.Models({listed.model_id: entry}))
        trust = Trust(ca_text=identity().certificate_pem.decode())
        with serving(application) as server:
            url = f"https://localhost:{server.address[1]}"
            with closing(Remote(url, trust)) as remote:
                yield remote


def test_the_last_rung_asks_a_running_appliance(folder: Path) -> None:
    opened, steps = open_folder(folder), list[int]()
    with appliance(folder, opened) as remote:
        report = climb(opened, steps.append, remote)
    assert [rung.name for rung in report.rungs] == [*RUNGS, TLS]
    assert report.passed, report.rungs[-1].problem
    assert steps == [1, 2, 3, 4, 5]
    assert report.rungs[-1].cases == report.rungs[-2].cases
    assert report.rungs[-1].differences == (0.0,) * report.rungs[-1].cases


@pytest.mark.parametrize("name", ["text", "bfloat16"])
def test_strings_and_bfloat16_go_through_tls(tmp_path: Path, name: str) -> None:
    opened = folders.make_folder(models.MODELS[name](), tmp_path / "m", count=2)
    assert {spec.dtype for spec in opened.plan.inputs} & {"string", "bfloat16"}
    with appliance(opened.path, opened) as remote:
        rung = climb(opened, lambda _: None, remote).rungs[-1]
    assert (rung.name, rung.passed) == (TLS, True), rung.problem
    assert rung.note == "", "every input was asked"


def test_inputs_that_are_too_large_for_it_are_counted(folder: Path) -> None:
    opened = open_folder(folder)
    with appliance(folder, opened, growth=1) as remote:
        remote_rung = climb(opened, lambda _: None, remote).rungs[-1]
    asked, refused = remote_rung.cases, int(remote_rung.note.split()[0])
    assert asked + refused == 12
    assert remote_rung.passed


def test_an_appliance_with_other_weights(folder: Path, tmp_path: Path) -> None:
    model = onnx.load(folder / "model.onnx")
    folders.change_weight(folder / "model.onnx", 0.01)
    source = tmp_path / "source.onnx"
    (folder / "model.onnx").rename(source)
    onnx.save(model, folder / "model.onnx")
    other = folders.make_folder(onnx.load(source), tmp_path / "other", count=2)
    opened = open_folder(folder)
    with appliance(other.path, opened) as remote:
        rung = climb(opened, lambda _: None, remote).rungs[-1]
    assert rung.passed is False
    assert "inputs differ, first " in rung.problem
    assert "the appliance may serve other partitions" in rung.problem


def test_an_appliance_is_not_asked_about_wrong_partitions(folder: Path) -> None:
    asked: list[str] = []

    class Spy(Remote):
        def check_model(self, model_id: str, version: int) -> None:
            asked.append(f"{model_id} {version}")

    folders.change_weight(folder / "001.onnx")
    with closing(Spy("https://localhost:1", Trust())) as remote:
        rung = climb(open_folder(folder), lambda _: None, remote).rungs[-1]
    assert (rung.name, rung.passed, rung.problem) == (TLS, None, "not reached")
    assert asked == []
