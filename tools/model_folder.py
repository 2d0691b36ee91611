"""A model's folder: the whole model, its plan, its partitions, and what it is for.

model.onnx         the whole model (with its external data, if it has any)
model.json         id, version, task, labels, preprocessing; written by the owner
plan.json          written by tools/partition.py
000.onnx …         the partitions, in the plan's order
samples/           optional: pictures and labels.json with their true classes
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from app.card import ModelCard, Purpose, read_purpose, with_tensors
from app.fields import FieldError, Fields, parse_json
from app.manifest import MODEL_ID, read_model_id, read_model_version
from tools.errors import ModelError
from tools.files import file_digest, new_folder
from tools.graph.external import copy_with_own_names
from tools.graph.extract import save_model, write_partition
from tools.graph.load import Model
from tools.graph.mapped import map_external, read_mapped
from tools.planner.plan import DATA_FILE, PLAN_FILE, Plan, read_plan
from tools.supplied import copy_supplied, followed, irregular, read_supplied, supplied_digest

MODEL_FILE: Final = "model.onnx"
CARD_FILE: Final = "model.json"
CARD_FORMAT: Final = 1
SAMPLES: Final = "samples"


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A model with its plan.

    Attributes:
        path: the folder.
        model_id, model_version: from model.json.
        purpose: what the owner wrote into model.json.
        plan: the plan that made the partitions.
    """

    path: Path
    model_id: str
    model_version: int
    purpose: Purpose
    plan: Plan

    @property
    def model_path(self) -> Path:
        """The whole model."""
        return self.path / MODEL_FILE

    @property
    def card(self) -> ModelCard:
        """What clients may know of the model."""
        return with_tensors(self.purpose, self.plan.inputs, self.plan.outputs)

    def partition_path(self, index: int) -> Path:
        """Gives a partition's ONNX file."""
        return self.path / self.plan.partitions[index].file

    def samples(self) -> Mapping[Path, int]:
        """Gives the labelled pictures with their true classes, empty when there are none.

        Raises:
            ModelError: when samples/labels.json isn't a table of classes, or a picture is missing.
        """
        path = self.path / SAMPLES / "labels.json"
        if not path.exists():
            return {}
        try:
            fields = Fields(parse_json(read_supplied(path.parent, path.name)), "labels")
            classes = {
                path.parent / name: fields.integer(name, least=0, most=len(self.purpose.labels) - 1)
                for name in fields.names()
            }
        except (OSError, FieldError) as error:
            raise ModelError(f"{path}: {error}") from error
        for picture in classes:
            if picture.parent != path.parent or picture.is_symlink() or not picture.is_file():
                raise ModelError(f"{path}: there is no picture {picture.name!r} beside it")
        return classes


def open_folder(path: Path) -> ModelFolder:
    """Opens a model's folder; `changed_files` tells whether its files belong together.

    Raises:
        ModelError: when plan.json or model.json is missing or can't be read.
    """
    if not path.is_dir():
        raise ModelError(f"{path}: expected a model's folder, as 'tools/partition.py' writes it")
    plan = read_plan(path / PLAN_FILE)
    model_id, version, purpose = _read_card(path / CARD_FILE)
    return ModelFolder(path, model_id, version, purpose, plan)


def changed_files(folder: ModelFolder) -> list[str]:
    """Compares the model and its partitions with the digests in the plan.

    Returns:
        One sentence for every file that is missing, is another one, or is no file at all; empty
        when all fit.
    """
    expected = {MODEL_FILE: folder.plan.model_digest, **dict(folder.plan.data_digests)}
    expected |= {partition.file: partition.digest for partition in folder.plan.partitions}
    problems = [
        problem
        for name, digest in expected.items()
        if (problem := _compare(folder.path, name, digest)) is not None
    ]
    problems += [
        f"{name}: is a link or a special file; a model's folder has files and folders alone"
        for name in irregular(folder.path)
        if name not in expected
    ]
    return problems + [
        f"{path.name}: holds weights that {PLAN_FILE} doesn't name; partition the model again"
        for path in sorted(folder.path.iterdir())
        if DATA_FILE.fullmatch(path.name) and path.name not in expected
    ]


def find_folders(path: Path) -> list[Path]:
    """Gives the model folders at or below a path, in the order of their names.

    Raises:
        ModelError: when there is none.
    """
    if not path.is_dir():
        raise ModelError(f"{path}: isn't a folder; expected one with models, such as partitions/")
    if (path / PLAN_FILE).exists() or (path / MODEL_FILE).exists():
        return [path]
    found = sorted(
        each
        for each in path.iterdir()
        if not each.name.startswith(".")
        and each.is_dir()
        and ((each / PLAN_FILE).exists() or (each / MODEL_FILE).exists())
    )
    if not found:
        raise ModelError(
            f"{path}: no model in it; 'tools/partition.py MODEL.onnx -o {path}/NAME' makes one"
        )
    return found


def write_folder(
    source: Path, model: Model, plan: Plan, target: Path, progress: Callable[[int], None]
) -> Plan:
    """Writes a model's folder whole, keeping model.json and samples that are there.

    Args:
        source: the ONNX file that the model was loaded from.
        model: the normalised model.
        plan: without digests.
        target: the folder.
        progress: called with the number of partitions written.

    Returns:
        The plan with digests, as written.
    """
    if target.exists() and not _is_replaceable(target):
        raise ModelError(f"{target}: exists and isn't a model's folder, so it isn't replaced")
    with new_folder(target) as work:
        _copy_model(source, work)
        _copy_kept(target, work)
        digests = []
        for partition in plan.partitions:
            write_partition(model, partition, work / partition.file)
            digests.append(file_digest(work / partition.file))
            progress(partition.index + 1)
        written = replace(
            plan,
            model_digest=file_digest(work / MODEL_FILE),
            data_digests=tuple(
                (path.name, file_digest(path))
                for path in sorted(work.iterdir())
                if DATA_FILE.fullmatch(path.name)
            ),
            partitions=tuple(
                replace(partition, digest=digest)
                for partition, digest in zip(plan.partitions, digests, strict=True)
            ),
        )
        (work / PLAN_FILE).write_text(written.to_text(), encoding="utf-8")
    return written


def _is_replaceable(target: Path) -> bool:
    known = (MODEL_FILE, PLAN_FILE, CARD_FILE)
    return target.is_dir() and (
        not any(target.iterdir()) or any((target / name).exists() for name in known)
    )


def _copy_model(source: Path, work: Path) -> None:
    """Copies the whole model; one that onnxruntime is too old for is written in older words.

    Files beside it get names of ours: a supplier chooses where nothing is written.
    """
    source = followed(source)
    mapped = read_mapped(source)
    if mapped.rewritten:
        model = mapped.to_ir()
        map_external(model)
        save_model(model, work / MODEL_FILE)
        return
    if mapped.has_external:
        copy_with_own_names(source, work / MODEL_FILE)
        return
    shutil.copyfile(source, work / MODEL_FILE)


def _copy_kept(target: Path, work: Path) -> None:
    if (target / SAMPLES).is_dir():
        _copy_samples(target / SAMPLES, work / SAMPLES)
    if (target / CARD_FILE).exists():
        _read_card(target / CARD_FILE)
        copy_supplied(target, CARD_FILE, work / CARD_FILE)
        return
    (work / CARD_FILE).write_text(json.dumps(_plain_card(target.name), indent=1) + "\n")


def _copy_samples(source: Path, target: Path) -> None:
    """Copies files and folders; a link would bring in what lies somewhere else."""
    target.mkdir()
    for path in sorted(source.rglob("*")):
        copy = target / path.relative_to(source)
        if path.is_dir() and not path.is_symlink():
            copy.mkdir()
        else:
            copy_supplied(source, path.relative_to(source).as_posix(), copy)


def _plain_card(name: str) -> dict[str, object]:
    model_id = name.lower()
    if not MODEL_ID.fullmatch(model_id):
        raise ModelError(
            f"{name!r} can't be a model's id; name the folder with letters a-z, digits, '.', '_' "
            f"and '-', or write its {CARD_FILE} with another id first"
        )
    return {
        "format": CARD_FORMAT,
        "id": model_id,
        "version": 1,
        "title": name,
        "task": "tensors",
        "labels": [],
        "scores": "logits",
        "preprocessing": None,
    }


def _read_card(path: Path) -> tuple[str, int, Purpose]:
    try:
        fields = Fields(parse_json(read_supplied(path.parent, path.name)), "model")
        fields.integer("format", least=CARD_FORMAT, most=CARD_FORMAT)
        model_id, version = read_model_id(fields), read_model_version(fields)
        purpose = read_purpose(fields)
        if fields.has("training"):
            fields.take("training")
        fields.done()
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}; {_about_card(path)}") from error
    except FieldError as error:
        raise ModelError(f"{path}: {error}; {_about_card(path)}") from error
    return model_id, version, purpose


def _about_card(path: Path) -> str:
    return (
        "it says what clients may know of the model: id, title, labels, preprocessing. Get it back "
        "from a copy, or correct it as partitions/README.md describes it; where there is none, "
        f"'tools/partition.py {path.parent / MODEL_FILE} -o {path.parent}', with the options that "
        "it was planned with, writes a plain one"
    )


def _compare(folder: Path, name: str, expected: str) -> str | None:
    try:
        actual = supplied_digest(folder, name)
    except OSError as error:
        return f"{name}: {error.strerror}"
    except ModelError as error:
        return str(error)
    if actual == expected:
        return None
    return (
        f"{name}: not the file that {PLAN_FILE} was written with "
        f"(SHA-256 {actual[:12]}…, expected {expected[:12]}…); partition the model again"
    )
