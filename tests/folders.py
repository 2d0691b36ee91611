"""Model folders and bundles, written by the project's own tools."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from PIL import Image

from app.bundle import MANIFEST_FILE, SIGNATURE_FILE, SIGNED_PREFIX
from tests import models
from tools.bundling.writer import BundleKeys, Period, write_bundle
from tools.model_folder import (
    CARD_FILE,
    MODEL_FILE,
    SAMPLES,
    ModelFolder,
    open_folder,
    write_folder,
)
from tools.planner.planner import plan_for_budget, plan_for_count
from tools.preparation import prepare

KEYS: Final = BundleKeys(
    bytes(range(32)), Ed25519PrivateKey.from_private_bytes(bytes(range(100, 132)))
)
OTHER_KEYS: Final = BundleKeys(
    bytes(range(1, 33)), Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
)
CHUNK_BYTES: Final = 4096
"""The smallest that the format allows, so that small objects have several chunks."""


def make_folder(
    model: onnx.ModelProto,
    target: Path,
    *,
    count: int | None = None,
    budget_bytes: int | None = None,
    dimensions: Mapping[str, int] | None = None,
    external: bool = False,
    objective: str = "partitions",
    overlap: bool = True,
    optimization: str = "none",
    tile_bytes: int | None = None,
) -> ModelFolder:
    """Plans and partitions a model; `count` or `budget_bytes` says how, one partition otherwise."""
    source = target.parent / f"{target.name}.source" / MODEL_FILE
    (models.save_external if external else models.save)(model, source)
    prepared = prepare(source, optimization, dimensions or {}, tile_bytes=tile_bytes)
    if budget_bytes is not None:
        plan = plan_for_budget(prepared.summary, budget_bytes, objective=objective, overlap=overlap)
    else:
        plan = plan_for_count(prepared.summary, count or 1, overlap=overlap)
    write_folder(source, prepared.model, prepared.plan(plan), target, lambda _: None)
    return open_folder(target)


def make_bundle(
    folder: ModelFolder,
    target: Path,
    *,
    keys: BundleKeys = KEYS,
    version: int = 1,
    period: Period | None = None,
) -> Path:
    """Encrypts a folder in chunks of the smallest size."""
    small = replace(
        folder, model_version=version, plan=replace(folder.plan, chunk_bytes=CHUNK_BYTES)
    )
    write_bundle(small, keys, target, progress=lambda _: None, period=period)
    return target


def edit_manifest(
    bundle: Path, edit: Callable[[dict[str, Any]], object], signer: Ed25519PrivateKey = KEYS.owner
) -> None:
    """Changes a bundle's manifest and signs it again."""
    content = json.loads((bundle / MANIFEST_FILE).read_bytes())
    edit(content)
    raw = json.dumps(content).encode()
    (bundle / MANIFEST_FILE).write_bytes(raw)
    (bundle / SIGNATURE_FILE).write_bytes(signer.sign(SIGNED_PREFIX + raw))


def edit_json(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Changes a JSON file."""
    content = json.loads(path.read_bytes())
    edit(content)
    path.write_text(json.dumps(content))


def make_classifier(target: Path, *, count: int = 3) -> ModelFolder:
    """Makes a picture classifier's folder with model.json and two labelled pictures."""
    make_folder(models.classifier(), target, count=count)
    edit_json(target / CARD_FILE, _describe_classifier)
    samples = target / SAMPLES
    samples.mkdir()
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 256, (20, 30), dtype=np.uint8)
        Image.fromarray(pixels).save(samples / f"{number}.png")
    (samples / "labels.json").write_text('{"0.png": 0, "1.png": 1}')
    return open_folder(target)


def change_weight(partition: Path, amount: float = 0.5) -> str:
    """Changes one number of a partition's first large weight; gives the weight's name."""
    model = onnx.load(partition)
    weight = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    array = onnx.numpy_helper.to_array(weight).copy()
    array.reshape(-1)[:] += np.float32(amount)
    weight.CopyFrom(onnx.numpy_helper.from_array(array, weight.name))
    onnx.save(model, partition)
    return str(weight.name)


def copy(source: Path, target: Path) -> Path:
    """Copies a folder."""
    shutil.copytree(source, target)
    return target


def read_manifest_text(bundle: Path) -> dict[str, Any]:
    """Reads a manifest without checking it."""
    content: dict[str, Any] = json.loads((bundle / MANIFEST_FILE).read_bytes())
    return content


def files(folder: Path) -> dict[str, bytes]:
    """Gives the content of every file below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _describe_classifier(card: dict[str, Any]) -> None:
    card["task"] = "image-classification"
    card["labels"] = ["a", "b", "c"]
    card["preprocessing"] = {
        "layout": "NCHW",
        "channels": 1,
        "height": 8,
        "width": 8,
        "fit": "stretch",
        "resize": "bilinear",
        "scale": 255,
        "mean": [0.5],
        "std": [0.25],
        "invert": False,
    }
