from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tools.training.digits import Digits, Split
from tools.training.folder import TEST_SET, Facts, sample_files, write_folder, write_test_set
from tools.training.pictures import Normalisation, picture_of, pixels_of


@pytest.fixture
def samples() -> Digits:
    values = np.random.default_rng(1).integers(0, 17, (3, 8, 8)).astype(np.float64)
    return Digits(values, np.array([4, 4, 7], dtype=np.int64))


@pytest.fixture
def facts() -> Facts:
    one = np.array([0], dtype=np.int64)
    return Facts(
        model_version=3,
        normalisation=Normalisation(0.25, 0.5),
        split=Split(one, one, one),
        seed=1,
        epochs=2,
        validation_accuracy=0.98765,
        test_accuracy=0.9,
        torch_version="2.13.0",
    )


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_a_sample_file_holds_the_very_pixels_of_its_digit(samples: Digits) -> None:
    files = sample_files(samples)
    assert list(files) == ["digit-4-1.png", "digit-4-2.png", "digit-7-1.png"]
    assert [label for _, label in files.values()] == [4, 4, 7]
    for values, (png, _) in zip(samples.values, files.values(), strict=True):
        assert Image.open(io.BytesIO(png)).tobytes() == picture_of(values).tobytes()


def test_the_same_facts_give_the_same_bytes(tmp_path: Path, samples: Digits, facts: Facts) -> None:
    for name in ("first", "again"):
        write_folder(tmp_path / name, b"model", facts, samples)
    first = content(tmp_path / "first")
    assert first == content(tmp_path / "again")
    assert set(first) == {
        "model.onnx",
        "model.json",
        "samples/labels.json",
        "samples/digit-4-1.png",
        "samples/digit-4-2.png",
        "samples/digit-7-1.png",
    }


def test_the_test_set_holds_what_training_sees(tmp_path: Path, samples: Digits) -> None:
    for name in ("first", "again"):
        write_test_set(tmp_path / name, samples)
    assert content(tmp_path / "first") == content(tmp_path / "again")
    with np.load(tmp_path / "first" / TEST_SET) as found:
        assert found["labels"].tolist() == [4, 4, 7]
        for values, pixels in zip(samples.values, found["pictures"], strict=True):
            np.testing.assert_array_equal(
                pixels / np.float32(255), pixels_of(picture_of(values))[0]
            )


def test_old_samples_go_and_other_files_stay(tmp_path: Path, samples: Digits, facts: Facts) -> None:
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "digit-9-1.png").write_bytes(b"old")
    (tmp_path / "plan.json").write_bytes(b"plan")
    write_folder(tmp_path, b"model", facts, samples)
    assert not (tmp_path / "samples" / "digit-9-1.png").exists()
    assert (tmp_path / "plan.json").read_bytes() == b"plan"


def test_a_failed_write_leaves_the_model_of_before(
    tmp_path: Path, samples: Digits, facts: Facts, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(tmp_path, b"model", facts, samples)
    before = content(tmp_path)

    def full_disk(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_folder(tmp_path, b"another model", facts, samples)
    assert content(tmp_path) == before
