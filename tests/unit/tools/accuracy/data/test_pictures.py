"""Pictures by class: every file is counted or mentioned."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.pictures import picture_tensor
from tools.accuracy.data.pictures import PictureFolder
from tools.errors import ModelError
from tools.model_folder import ModelFolder


def draw(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (10, 12), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_classes_by_label_and_by_number(classifier_folder: ModelFolder, tmp_path: Path) -> None:
    one, two = draw(tmp_path / "b" / "x.PNG", 1), draw(tmp_path / "2" / "y.jpg", 2)
    data = PictureFolder(tmp_path, classifier_folder)
    examples = list(data)
    how = classifier_folder.purpose.preprocessing
    assert how is not None
    assert data.count == 2
    assert data.remarks == []
    assert {example.name: example.labels for example in examples} == {
        "2/y.jpg": [2],
        "b/x.PNG": [1],
    }
    for path, example in zip((two, one), examples, strict=True):
        expected = picture_tensor(path.read_bytes(), how)
        np.testing.assert_array_equal(example.inputs["image"], expected)


def test_a_broken_picture_is_skipped_and_named(
    classifier_folder: ModelFolder, tmp_path: Path
) -> None:
    draw(tmp_path / "a" / "good.png", 1)
    (tmp_path / "a" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    data = PictureFolder(tmp_path, classifier_folder)
    assert [example.name for example in data] == ["a/good.png"]
    assert data.remarks[0].startswith("a/bad.png is skipped")


def test_strays_are_mentioned(classifier_folder: ModelFolder, tmp_path: Path) -> None:
    draw(tmp_path / "a" / "good.png", 1)
    draw(tmp_path / "giraffe" / "tall.png", 2)
    draw(tmp_path / "a" / "deeper" / "x.png", 3)
    (tmp_path / "a" / "notes.txt").write_text("n")
    (tmp_path / "README").write_text("r")
    data = PictureFolder(tmp_path, classifier_folder)
    assert data.count == 1
    [remark] = data.remarks
    assert remark.startswith("4 entries")
    assert "README" in remark
    assert "deeper" in remark


def test_a_label_that_two_classes_have_names_neither(
    classifier_folder: ModelFolder, tmp_path: Path
) -> None:
    purpose = replace(classifier_folder.purpose, labels=("crane", "crane", "duck"))
    folder = replace(classifier_folder, purpose=purpose)
    draw(tmp_path / "crane" / "x.png", 1)
    with pytest.raises(ModelError, match="no picture of a known class"):
        PictureFolder(tmp_path, folder)
    draw(tmp_path / "1" / "x.png", 1)
    assert PictureFolder(tmp_path, folder).count == 1


def test_no_picture_of_a_known_class(classifier_folder: ModelFolder, tmp_path: Path) -> None:
    draw(tmp_path / "3" / "x.png", 1)
    with pytest.raises(ModelError, match=r"as 'a', or by number, 0 to 2"):
        PictureFolder(tmp_path, classifier_folder)


def test_model_that_takes_no_pictures(chain_folder: ModelFolder, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"give an \.npz file"):
        PictureFolder(tmp_path, chain_folder)
