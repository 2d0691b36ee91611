"""Files and folders that belong to nothing: said, not silently passed over."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tools.model_folder import CARD_FILE, MODEL_FILE, SAMPLES, ModelFolder
from tools.planner.plan import PLAN_FILE

_KNOWN: Final = (MODEL_FILE, CARD_FILE, PLAN_FILE, SAMPLES, "recipe.json", "plan.svg", "plan.png")
_SHOWN: Final = 5


def stray_files(folder: ModelFolder) -> list[str]:
    """Names what lies in a model's folder and is neither planned nor known.

    An old partition that a smaller plan left behind is such a file: nothing reads it.
    """
    plan = folder.plan
    files = [partition.file for partition in plan.partitions]
    data = [name.split("/")[0] for name, _ in plan.data_digests]
    known = {*_KNOWN, *files, *(f"{file}.data" for file in files), *data}
    strays = [entry.name for entry in sorted(folder.path.iterdir()) if entry.name not in known]
    return [f"not part of the plan, nothing reads it: {_listed(strays)}"] if strays else []


def stray_folders(path: Path, models: Sequence[Path]) -> list[str]:
    """Names the folders beside models that are no models: they hold neither plan nor model."""
    if list(models) == [path]:
        return []
    others = [each.name for each in sorted(path.iterdir()) if each.is_dir() and each not in models]
    if not others:
        return []
    return [f"{path}: no {PLAN_FILE} or {MODEL_FILE} in {_listed(others)}, so not checked"]


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
