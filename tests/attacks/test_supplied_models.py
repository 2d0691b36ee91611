"""A supplier's model or folder reads, writes and bundles nothing but what is its own.

The attacker sends a model with files beside it, or a folder of partitions, and the owner works on
them with the project's own commands. What must not happen: a file of the owner's gets into what
is shipped, or anything outside of the target is written.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests import folders, models
from tests.graph import FLOAT, OPSET
from tools.accuracy.strays import stray_files
from tools.commands.bundle import main as bundle
from tools.commands.check_accuracy import main as check
from tools.commands.partition import main as partition
from tools.graph.load import load_model
from tools.model_folder import changed_files, open_folder

SECRET: Final = b"SECRET OF THE OWNER, 32 BYTES..!"
VALUES: Final = 8


def external(name: str, location: str, **more: str) -> TensorProto:
    """float32 values that lie in a file."""
    tensor = TensorProto(
        name=name, data_type=FLOAT, dims=[VALUES], data_location=TensorProto.EXTERNAL
    )
    for key, value in {"location": location, "length": str(4 * VALUES), **more}.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def adding(nodes: list[onnx.NodeProto], tensors: list[TensorProto]) -> onnx.ModelProto:
    """Adds a value called "c" to the input."""
    values = [helper.make_tensor_value_info(name, FLOAT, [VALUES]) for name in ("x", "y")]
    add = helper.make_node("Add", ["x", "c"], ["y"])
    graph = helper.make_graph([*nodes, add], "g", values[:1], values[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)


def in_initializer(location: str, **more: str) -> onnx.ModelProto:
    return adding([], [external("c", location, **more)])


def in_attribute(location: str, **more: str) -> onnx.ModelProto:
    constant = helper.make_node("Constant", [], ["c"], value=external("c", location, **more))
    return adding([constant], [])


def in_branches(location: str, **more: str) -> onnx.ModelProto:
    def branch(name: str) -> onnx.GraphProto:
        output = helper.make_tensor_value_info(name, FLOAT, [VALUES])
        return helper.make_graph([], name, [], [output], [external(name, location, **more)])

    choice = helper.make_node("If", ["b"], ["c"], then_branch=branch("t"), else_branch=branch("e"))
    return adding([choice], [numpy_helper.from_array(np.array(True), "b")])


PLACES: Final = (in_initializer, in_attribute, in_branches)
Make = Callable[..., onnx.ModelProto]


@pytest.fixture
def owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The owner's folder, with a secret; it is the working folder too."""
    place = tmp_path / "owner"
    place.mkdir()
    (place / "secret.key").write_bytes(SECRET)
    monkeypatch.chdir(place)
    return place


@pytest.fixture
def supplied(tmp_path: Path) -> Path:
    place = tmp_path / "supplied"
    place.mkdir()
    return place


def holds(folder: Path, content: bytes) -> bool:
    return any(content in path.read_bytes() for path in folder.rglob("*") if path.is_file())


LOCATIONS: Final = {
    "upwards": "../owner/secret.key",
    "in the working folder": "secret.key",
    "absolute": "/proc/self/environ",
    "upwards through a folder that is there": "inner/../../owner/secret.key",
    "a link": "link.bin",
    "a link to a folder": "folder/secret.key",
    "a link to a link": "other.bin",
    "a pipe": "pipe",
    "a device": "zero",
    "a place in memory": "*/_ORT_MEM_ADDR_/*",
    "a folder": "inner",
    "nothing": "",
    "two names in one": "a.bin\0b",
}


@pytest.mark.parametrize("make", PLACES)
@pytest.mark.parametrize("kind", LOCATIONS)
def test_a_model_names_a_file_that_is_not_its_own(
    owner: Path, supplied: Path, make: Make, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (supplied / "inner").mkdir()
    (supplied / "link.bin").symlink_to(owner / "secret.key")
    (supplied / "other.bin").symlink_to("link.bin")
    (supplied / "folder").symlink_to(owner)
    (supplied / "zero").symlink_to("/dev/zero")
    (supplied / "*" / "_ORT_MEM_ADDR_").mkdir(parents=True)
    (supplied / "*" / "_ORT_MEM_ADDR_" / "*").write_bytes(SECRET)
    os.mkfifo(supplied / "pipe")
    (supplied / "model.onnx").write_bytes(make(LOCATIONS[kind]).SerializeToString())
    target = owner / "partitions" / "m"
    arguments = [str(supplied / "model.onnx"), "-o", str(target), "--partitions", "1", "--quiet"]
    for optimization in ("none", "extended"):
        assert partition([*arguments, "--optimization", optimization]) == 2
    assert not target.exists()
    said = capsys.readouterr().err
    assert all(line.startswith("error: ") for line in said.splitlines())


@pytest.mark.parametrize("make", PLACES)
@pytest.mark.parametrize(
    "more",
    [
        {"offset": "-1"},
        {"offset": "1_0"},
        {"length": str(1 << 40)},
        {"length": "4"},
        {"offset": "9" * 40},
        {"offset": "٣"},
    ],
)
def test_a_reference_that_has_no_one_meaning(
    supplied: Path, make: Make, more: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    (supplied / "w.bin").write_bytes(bytes(4 * VALUES))
    (supplied / "model.onnx").write_bytes(make("w.bin", **more).SerializeToString())
    assert partition([str(supplied / "model.onnx"), "--dry-run", "--partitions", "1"]) == 2
    assert "external data" in capsys.readouterr().err


@pytest.mark.parametrize("make", PLACES)
def test_a_model_with_its_own_file(owner: Path, supplied: Path, make: Make) -> None:
    """It is found from any working folder, and what is written holds its values."""
    values = np.arange(VALUES, dtype=np.float32)
    (supplied / "inner").mkdir()
    (supplied / "inner" / "w.bin").write_bytes(values.tobytes())
    (supplied / "model.onnx").write_bytes(make("./inner/w.bin").SerializeToString())
    target = owner / "partitions" / "m"
    assert partition([str(supplied / "model.onnx"), "-o", str(target), "--partitions", "1"]) == 0
    shutil.rmtree(supplied)
    assert holds(target, values.tobytes())
    assert check([str(target), "--quiet"]) == 0
    names = {path.name for path in target.rglob("*")}
    assert names <= {"model.onnx", "model.json", "plan.json", "000.onnx", "data-0.bin"}


@pytest.mark.parametrize("name", ["model.onnx", "plan.json", "model.json", "000.onnx", "a/b/c"])
def test_a_file_called_as_one_of_ours(owner: Path, supplied: Path, name: str) -> None:
    values = np.arange(VALUES, dtype=np.float32)
    (supplied / name).parent.mkdir(parents=True, exist_ok=True)
    (supplied / name).write_bytes(values.tobytes())
    (supplied / "net.onnx").write_bytes(in_initializer(name).SerializeToString())
    target = owner / "partitions" / "m"
    assert partition([str(supplied / "net.onnx"), "-o", str(target), "--partitions", "1"]) == 0
    folder = open_folder(target)
    assert (changed_files(folder), stray_files(folder)) == ([], [])
    assert (target / "data-0.bin").read_bytes() == values.tobytes()
    assert check([str(target), "--quiet"]) == 0


@pytest.mark.parametrize("kind", ["a sibling's folder", "through a link"])
def test_a_model_chooses_where_it_is_written(owner: Path, supplied: Path, kind: str) -> None:
    """The name resolves inside of the supplier's folder, and outside of the target."""
    other = owner / "partitions" / "supplied"
    other.mkdir(parents=True)
    if kind == "through a link":
        (supplied / "a" / "b").mkdir(parents=True)
        (supplied / "x").symlink_to("a/b")
        location, planted = "x/../../planted", supplied / "planted"
    else:
        (supplied / "x").mkdir()
        location, planted = "x/../../supplied/planted", supplied / "planted"
    planted.write_bytes(bytes(4 * VALUES))
    (supplied / "model.onnx").write_bytes(in_initializer(location).SerializeToString())
    before = sorted(owner.rglob("*"))
    target = owner / "partitions" / "new"
    assert partition([str(supplied / "model.onnx"), "-o", str(target), "--partitions", "1"]) == 2
    assert sorted(owner.rglob("*")) == before


@pytest.fixture
def bundling(tmp_path: Path) -> list[str]:
    """Keys, and arguments of the command that makes a bundle."""
    key, pem = tmp_path / "m.key", tmp_path / "owner.pem"
    assert bundle(["keygen", "model", str(key)]) == 0
    assert bundle(["keygen", "owner", str(pem)]) == 0
    target = tmp_path / "out" / "m.bundle"
    return ["--key", str(key), "--owner-key", str(pem), "-o", str(target), "--quiet"]


def spoilt(folder: Path, content: bytes) -> None:
    """Exchanges the first partition; its digest in the plan is the right one."""
    (folder / "000.onnx").write_bytes(content)
    plan = json.loads((folder / "plan.json").read_text())
    plan["partitions"][0]["sha256"] = hashlib.sha256(content).hexdigest()
    (folder / "plan.json").write_text(json.dumps(plan))


@pytest.mark.parametrize("make", PLACES)
@pytest.mark.parametrize("location", ["keys/other.key", "secret.key", "000.onnx.data"])
def test_a_folder_whose_partition_names_a_file(
    owner: Path, tmp_path: Path, make: Make, location: str, bundling: list[str]
) -> None:
    """Files of that name lie in the folder and in the working folder."""
    folder = tmp_path / "m"
    folders.make_folder(in_attribute_inside(), folder, count=1)
    for place in (folder, owner):
        (place / location).parent.mkdir(exist_ok=True)
        (place / location).write_bytes(SECRET)
    spoilt(folder, make(location).SerializeToString())
    assert bundle([str(folder), *bundling]) == 2
    assert not (tmp_path / "out" / "m.bundle").exists()


def in_attribute_inside() -> onnx.ModelProto:
    return adding([], [numpy_helper.from_array(np.ones(VALUES, np.float32), "c")])


def test_the_file_beside_a_large_partition(
    tmp_path: Path, bundling: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.graph.extract._EXTERNAL_FROM_BYTES", 1)
    folder = tmp_path / "m"
    folders.make_folder(models.chain(), folder, count=2)
    assert (folder / "001.onnx.data").exists()
    assert check([str(folder), "--quiet"]) == 0
    assert bundle([str(folder), *bundling]) == 0
    with (folder / "001.onnx.data").open("r+b") as file:
        file.write(b"\xff")
    assert check([str(folder), "--quiet"]) == 1
    assert bundle([str(folder), *bundling]) == 2


def test_a_folder_whose_partition_has_an_operator_that_opens_files(
    tmp_path: Path, bundling: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "m"
    folders.make_folder(in_attribute_inside(), folder, count=1)
    model = onnx.load(folder / "000.onnx")
    model.graph.node[0].op_type, model.graph.node[0].domain = "EPContext", "com.microsoft"
    spoilt(folder, model.SerializeToString())
    assert bundle([str(folder), *bundling]) == 2
    assert "opens files" in capsys.readouterr().err
    assert not (tmp_path / "out" / "m.bundle").exists()


def exchanged(name: str) -> Callable[[Path, Path], None]:
    def change(folder: Path, secret: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(secret)

    return change


def piped(folder: Path, _secret: Path) -> None:
    (folder / "000.onnx").unlink()
    os.mkfifo(folder / "000.onnx")


def emptied(folder: Path, _secret: Path) -> None:
    (folder / "model.onnx").unlink()


def renamed(folder: Path, _secret: Path) -> None:
    plan = json.loads((folder / "plan.json").read_text())
    plan["model"]["data"] = [{"file": "../owner/secret.key", "sha256": "0" * 64}]
    (folder / "plan.json").write_text(json.dumps(plan))


FOLDERS: Final = {
    "a partition is a link": exchanged("000.onnx"),
    "the model is a link": exchanged("model.onnx"),
    "the card is a link": exchanged("model.json"),
    "the plan is a link": exchanged("plan.json"),
    "a link beside them": exchanged("more"),
    "a partition is a pipe": piped,
    "the model is missing": emptied,
    "the plan names another file": renamed,
}


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_folder_that_is_refused_by_one_command_is_by_the_other(
    owner: Path, tmp_path: Path, kind: str, bundling: list[str]
) -> None:
    folder = tmp_path / "m"
    folders.make_folder(in_attribute_inside(), folder, count=1)
    FOLDERS[kind](folder, owner / "secret.key")
    assert bundle([str(folder), *bundling]) == 2
    assert not (tmp_path / "out" / "m.bundle").exists()
    assert check([str(folder), "--quiet"]) == 1


def test_samples_that_are_links(owner: Path, supplied: Path) -> None:
    """Planned again, a folder's samples are copied: not what their links lead to."""
    path = models.save(models.chain(), supplied / "net.onnx")
    target = owner / "partitions" / "m"
    arguments = [str(path), "-o", str(target), "--partitions", "1", "--quiet"]
    assert partition(arguments) == 0
    (target / "samples").mkdir()
    (target / "samples" / "x.png").symlink_to(owner / "secret.key")
    assert partition(arguments) == 2
    assert not holds(target, SECRET) or (target / "samples" / "x.png").is_symlink()


@pytest.mark.parametrize(
    ("node", "said"),
    [
        (helper.make_node("Add", ["x", "c"], ["y"], domain="ai.onnx.contrib"), "of the domain"),
        (helper.make_node("EPContext", ["x"], ["y"], domain="com.microsoft"), "compiled"),
    ],
)
def test_an_operator_that_no_enclave_opens(
    supplied: Path, node: onnx.NodeProto, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model = in_attribute_inside()
    model.graph.node[0].CopyFrom(node)
    model.opset_import.append(helper.make_opsetid(node.domain, 1))
    path = models.save(model, supplied / "model.onnx")
    for optimization in ("none", "extended"):
        words = [str(path), "--dry-run", "--partitions", "1", "--optimization", optimization]
        assert partition(words) == 2
        assert said in capsys.readouterr().err


def test_a_link_that_the_user_names_is_followed(supplied: Path) -> None:
    path = models.save(models.chain(), supplied / "v3" / "net.onnx")
    (supplied / "current.onnx").symlink_to(path)
    assert partition([str(supplied / "current.onnx"), "--dry-run", "--partitions", "2"]) == 0
    assert len(load_model(supplied / "current.onnx").graph) > 0
