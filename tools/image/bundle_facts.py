"""The few facts about a bundle that an image depends on, read from its manifest.

Nothing here is trusted: the app checks the manifest's signature when it starts.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from app.files import WrongFileError, read_file
from app.manifest import MAX_MANIFEST_BYTES
from tools.errors import ImageBuildError

MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class BundleFacts:
    """Attributes: model_id and version of its model; bundle_id; budget_bytes of its plan."""

    model_id: str
    version: int
    bundle_id: str
    budget_bytes: int


def read_bundle_facts(path: Path) -> BundleFacts:
    """Reads a bundle's manifest.

    Args:
        path: the bundle's folder.

    Raises:
        ImageBuildError: there is no manifest, or it lacks a field; lists all.
    """
    manifest = path / MANIFEST
    try:
        content = json.loads(read_file(manifest, MAX_MANIFEST_BYTES))
    except (WrongFileError, OSError, ValueError) as error:
        raise ImageBuildError(str(path), [f"{MANIFEST} can't be read: {error}"]) from error
    model = content.get("model") if isinstance(content, dict) else None
    if not isinstance(model, dict):
        raise ImageBuildError(str(manifest), ["must hold an object 'model'"])
    values = {
        "model.id": (model.get("id"), str),
        "model.version": (model.get("version"), int),
        "bundle_id": (content.get("bundle_id"), str),
        "budget_bytes": (content.get("budget_bytes"), int),
    }
    problems = [
        f"{name} must be {'a text' if kind is str else 'a whole number'}, not {value!r}"
        for name, (value, kind) in values.items()
        if type(value) is not kind
    ]
    if problems:
        raise ImageBuildError(str(manifest), problems)
    return BundleFacts(model["id"], model["version"], content["bundle_id"], content["budget_bytes"])
