"""The committed sample model: its files fit together, and it does what model.json says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from PIL import Image

from app.card import Preprocessing, Purpose, read_purpose
from app.engine import WholeModel
from app.fields import Fields
from tools.training.pictures import Normalisation, moved, normalised, pixels_of

FOLDER = Path(__file__).parents[4] / "partitions" / "digits"
MAX_FOLDER_BYTES = 5_000_000


@pytest.fixture(scope="module")
def description() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((FOLDER / "model.json").read_text())
    return content


@pytest.fixture(scope="module")
def purpose(description: dict[str, Any]) -> Purpose:
    return read_purpose(Fields(description, "model.json"))


@pytest.fixture(scope="module")
def preprocessing(purpose: Purpose) -> Preprocessing:
    assert purpose.preprocessing is not None
    return purpose.preprocessing


@pytest.fixture(scope="module")
def labels() -> dict[str, int]:
    content: dict[str, int] = json.loads((FOLDER / "samples" / "labels.json").read_text())
    return content


@pytest.fixture(scope="module")
def model() -> WholeModel:
    return WholeModel(FOLDER / "model.onnx", "none")


def tensor_of(picture: Image.Image, how: Preprocessing) -> NDArray[np.float32]:
    """What model.json says, spelled out a second time: any server must come to the same."""
    resized = picture.convert("L").resize((how.width, how.height), Image.Resampling.BILINEAR)
    pixels = np.asarray(resized, dtype=np.float32) / np.float32(how.scale)
    return ((pixels - np.float32(how.mean[0])) / np.float32(how.std[0]))[np.newaxis, np.newaxis]


def answer(model: WholeModel, images: NDArray[np.float32]) -> list[int]:
    return [int(label) for label in model.run({"image": images})["logits"].argmax(axis=1)]


def test_folder_stays_small() -> None:
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < MAX_FOLDER_BYTES


def test_model_is_valid_and_whole() -> None:
    model = onnx.load(FOLDER / "model.onnx", load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    weights = model.graph.initializer
    assert all(weight.data_location == onnx.TensorProto.DEFAULT for weight in weights)
    assert [value.name for value in model.graph.input] == ["image"]
    assert [value.name for value in model.graph.output] == ["logits"]
    assert model.opset_import[0].version >= 17


def test_test_accuracy_is_at_least_98_percent(description: dict[str, Any]) -> None:
    training = description["training"]
    assert training["accuracy"]["test"] >= 0.98
    assert sum(training["split"].values()) == 1797


def test_description_fits_the_preprocessing_of_training(
    preprocessing: Preprocessing, labels: dict[str, int]
) -> None:
    normalisation = Normalisation(preprocessing.mean[0], preprocessing.std[0])
    with Image.open(FOLDER / "samples" / next(iter(labels))) as picture:
        ours = normalised(pixels_of(picture), normalisation)[np.newaxis]
        assert np.array_equal(tensor_of(picture, preprocessing), ours)


def test_every_label_has_two_samples_and_every_sample_a_label(
    purpose: Purpose, labels: dict[str, int]
) -> None:
    assert {path.name for path in (FOLDER / "samples").glob("*.png")} == set(labels)
    assert sorted(labels.values()) == sorted(2 * list(range(len(purpose.labels))))


def test_samples_are_recognised(
    model: WholeModel, preprocessing: Preprocessing, labels: dict[str, int]
) -> None:
    pictures = [Image.open(FOLDER / "samples" / name) for name in labels]
    images = np.concatenate([tensor_of(picture, preprocessing) for picture in pictures])
    right = np.equal(answer(model, images), list(labels.values()))
    assert right.mean() >= 0.9


def test_samples_are_recognised_shifted_turned_and_resized(
    model: WholeModel, preprocessing: Preprocessing, labels: dict[str, int]
) -> None:
    rng = np.random.default_rng(7)
    right = []
    for name, label in labels.items():
        with Image.open(FOLDER / "samples" / name) as picture:
            copies = [tensor_of(moved(picture, rng), preprocessing) for _ in range(5)]
        right += [found == label for found in answer(model, np.concatenate(copies))]
    assert np.mean(right) >= 0.9


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_a_picture_gets_the_same_answer_in_every_batch(model: WholeModel, batch: int) -> None:
    images = np.random.default_rng(2).random((batch, 1, 32, 32), dtype=np.float32)
    together = model.run({"image": images})["logits"]
    assert together.shape == (batch, 10)
    for image, logits in zip(images, together, strict=True):
        alone = model.run({"image": image[np.newaxis]})["logits"][0]
        assert np.allclose(alone, logits, rtol=0, atol=1e-4)
