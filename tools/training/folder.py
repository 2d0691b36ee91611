"""Writes a model folder: model.onnx, model.json, labelled sample pictures, the test set."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from app.card import Preprocessing
from tools.training.digits import LABELS, SOURCE, Digits, Split
from tools.training.pictures import (
    INPUT_SIDE,
    PIXEL_SCALE,
    Normalisation,
    picture_of,
    pixels_of,
)

FORMAT: Final = 1
TEST_SET: Final = "samples/test_set.npz"
MODEL_ID: Final = "digits"
TITLE: Final = "Handwritten digits, light ink on dark ground"


@dataclass(frozen=True)
class Facts:
    """What model.json says about how a model came about; accuracies are shares, 0 to 1."""

    model_version: int
    normalisation: Normalisation
    split: Split
    seed: int
    epochs: int
    validation_accuracy: float
    test_accuracy: float
    torch_version: str


def description(facts: Facts) -> dict[str, Any]:
    """The content of model.json; partitions/README.md explains its fields."""
    split = facts.split
    return {
        "format": FORMAT,
        "id": MODEL_ID,
        "version": facts.model_version,
        "title": TITLE,
        "task": "image-classification",
        "scores": "logits",
        "preprocessing": preprocessing(facts.normalisation).to_json(),
        "labels": list(LABELS),
        "training": {
            "data": SOURCE,
            "split": {
                "train": len(split.train),
                "validation": len(split.validation),
                "test": len(split.test),
            },
            "seed": facts.seed,
            "epochs": facts.epochs,
            "accuracy": {
                "validation": round(facts.validation_accuracy, 4),
                "test": round(facts.test_accuracy, 4),
            },
            "command": "tools/train_digits.py",
            "torch": facts.torch_version,
        },
    }


def preprocessing(normalisation: Normalisation) -> Preprocessing:
    """What `tools.training.pictures` does to a picture, as data for whoever serves the model."""
    return Preprocessing(
        layout="NCHW",
        channels=1,
        height=INPUT_SIDE,
        width=INPUT_SIDE,
        fit="stretch",
        resize="bilinear",
        scale=PIXEL_SCALE,
        mean=(normalisation.mean,),
        std=(normalisation.std,),
        invert=False,
    )


def sample_files(samples: Digits) -> dict[str, tuple[bytes, int]]:
    """PNG bytes and label of every sample, by a file name that counts within its label."""
    files: dict[str, tuple[bytes, int]] = {}
    counts = dict.fromkeys(range(len(LABELS)), 0)
    for values, label in zip(samples.values, samples.labels.tolist(), strict=True):
        counts[label] += 1
        buffer = io.BytesIO()
        picture_of(values).save(buffer, "PNG", optimize=True)
        files[f"digit-{LABELS[label]}-{counts[label]}.png"] = (buffer.getvalue(), label)
    return files


def write_folder(folder: Path, model: bytes, facts: Facts, samples: Digits) -> None:
    """Writes the files, each beside its place and then renamed; pictures of before are removed.

    Args:
        folder: made if it isn't there; other files in it stay.
        model: the ONNX file.
        facts: for model.json.
        samples: written as samples/*.png with samples/labels.json.
    """
    pictures = folder / "samples"
    pictures.mkdir(parents=True, exist_ok=True)
    files = sample_files(samples)
    for name, (png, _) in files.items():
        _write(pictures / name, png)
    _write(pictures / "labels.json", _json({name: label for name, (_, label) in files.items()}))
    for stale in set(pictures.glob("*.png")) - {pictures / name for name in files}:
        stale.unlink()
    _write(folder / "model.onnx", model)
    _write(folder / "model.json", _json(description(facts)))


def write_test_set(folder: Path, test: Digits) -> None:
    """Writes the test part as `tools/check_accuracy.py --data` reads it.

    The pictures are uint8 [N, 32, 32], as they are after the resize and before the
    normalisation: the model card's resize to the same size leaves them as they are.
    """
    shares = np.concatenate([pixels_of(picture_of(values)) for values in test.values])
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        pictures=np.rint(shares * PIXEL_SCALE).astype(np.uint8),
        labels=test.labels.astype(np.uint8),
    )
    (folder / TEST_SET).parent.mkdir(parents=True, exist_ok=True)
    _write(folder / TEST_SET, buffer.getvalue())


def _json(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def _write(path: Path, content: bytes) -> None:
    beside = path.with_name(f".{path.name}.new")
    beside.write_bytes(content)
    beside.replace(path)
