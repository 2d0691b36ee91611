"""The models that are measured: from the zoo, or one of this project's own; how they are cut."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from app.errors import NotFoundError
from tools.bench.runner import write_keyed_bundle
from tools.bundling.writer import BundleKeys
from tools.errors import NoFeasiblePlanError
from tools.launcher import ROOT
from tools.model_folder import MODEL_FILE, ModelFolder, open_folder, write_folder
from tools.planner.planner import plan_for_budget, plan_for_count
from tools.preparation import prepare, tile_size
from tools.zoo.folder import build, is_current
from tools.zoo.registry import ENTRIES, find

OWN: Final = ROOT / "partitions"
ZOO: Final = ROOT / "build" / "zoo"

FEW: Final = 4
"""Partitions of a model whose activations outweigh its weights."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A model to measure.

    Attributes:
        name: as on the command line.
        source: its ONNX file.
    """

    name: str
    source: Path


@dataclass(frozen=True, slots=True)
class Cut:
    """How a model is partitioned.

    Attributes:
        budget_bytes: for all of its memory; None when the number of partitions is given.
        count: the number of partitions; None when the budget is given.
        threads: of a run; one leaves a core free to decrypt meanwhile.
        optimization: onnxruntime's rewrites before cutting.
        objective: of the planner, for a budget.
        lock_step: requests of one batch.
        dimensions: sizes to plan with, by the names that the model gives to them.
    """

    budget_bytes: int | None = None
    count: int | None = None
    threads: int = 1
    optimization: str = "all"
    objective: str = "time"
    lock_step: int = 1
    dimensions: Mapping[str, int] = field(default_factory=dict)


def names() -> list[str]:
    """Gives the names of all models that can be measured."""
    own = [path.parent.name for path in sorted(OWN.glob(f"*/{MODEL_FILE}"))]
    return [*own, *(entry.name for entry in ENTRIES)]


def find_subject(name: str, zoo: Path) -> Subject:
    """Finds a model; one of the zoo is made when it isn't there.

    Raises:
        NotFoundError: with the names that there are.
        ModelError: when the zoo can't make it.
    """
    if (OWN / name / MODEL_FILE).is_file():
        return Subject(name, OWN / name / MODEL_FILE)
    if name not in names():
        raise NotFoundError(f"there is no model {name!r}; there are {', '.join(names())}")
    folder = zoo / name
    if not is_current(find(name), folder):
        build(find(name), zoo, lambda _: None)
    return Subject(name, folder / MODEL_FILE)


def partitioned(subject: Subject, cut: Cut, target: Path) -> ModelFolder:
    """Cuts a model into a folder.

    Raises:
        NoFeasiblePlanError: when the budget is too small.
        InputError: when the model can't be cut into so many.
    """
    tile_bytes = tile_size(cut.budget_bytes, cut.objective) if cut.budget_bytes else None
    prepared = prepare(
        subject.source,
        cut.optimization,
        cut.dimensions,
        tile_bytes=tile_bytes,
        budget_bytes=cut.budget_bytes,
        lock_step=cut.lock_step,
    )
    overlap = cut.threads == 1
    if cut.budget_bytes:
        plan = plan_for_budget(
            prepared.summary,
            cut.budget_bytes,
            objective=cut.objective,
            overlap=overlap,
            threads=cut.threads,
            lock_step=cut.lock_step,
        )
    else:
        plan = plan_for_count(
            prepared.summary,
            cut.count or 1,
            overlap=overlap,
            threads=cut.threads,
            lock_step=cut.lock_step,
        )
    write_folder(subject.source, prepared.model, prepared.plan(plan), target, lambda _: None)
    return open_folder(target)


def in_budget(
    subject: Subject, budget_bytes: int | None, cuts: Mapping[Path, Cut]
) -> list[ModelFolder]:
    """Cuts a model in several ways for one budget.

    Args:
        subject: the model.
        budget_bytes: for all of them. None takes a third of the model's file, because partitions
            matter where the model doesn't fit; where its activations alone need more, the model is
            cut into `FEW` partitions that get the least memory they can run in.
        cuts: by folder to write; their own budgets don't count.

    Raises:
        NoFeasiblePlanError: when the given budget is too small.
    """
    budget = budget_bytes or subject.source.stat().st_size // 3
    try:
        return [partitioned(subject, replace(c, budget_bytes=budget), p) for p, c in cuts.items()]
    except NoFeasiblePlanError:
        if budget_bytes:
            raise
    return [
        partitioned(subject, replace(cut, budget_bytes=None, count=FEW), path)
        for path, cut in cuts.items()
    ]


def encrypted(folder: ModelFolder, target: Path, keys: BundleKeys | None = None) -> Path:
    """Writes a folder's bundle, with keys of its own unless others are given; gives the bundle."""
    write_keyed_bundle(folder, target, keys)
    return target
