"""Makes the golden bundle of format version 2: `python -m tests.vectors.generate`.

It was run once, and what it wrote is committed: a change of the format must
not go unnoticed because both sides changed. Run it again only for a new format
version, into a new folder, and keep the old ones: the folder of format 1 was
written by the same function, as it was then.

The model is `tests.models.element_types()` cut into three partitions, of which one
has weights of two chunks and another none, so its weights object is empty.
Written beside the bundle are the keys (test data, they protect nothing) and
every object's plaintext, taken before it was encrypted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from app.objects import ObjectName
from app.release import FORMAT_VERSION
from tests import folders, models
from tools.bundling import writer
from tools.bundling.keys import encode_public_key
from tools.bundling.writer import Period

BUNDLE_ID = bytes(range(200, 232))
PERIOD = Period(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), datetime(2999, 12, 31, tzinfo=UTC))


@dataclass(frozen=True)
class Vector:
    """The files of one format version."""

    version: int

    @property
    def folder(self) -> Path:
        return Path(__file__).parent / f"v{self.version}"

    @property
    def bundle(self) -> Path:
        return self.folder / "golden.bundle"

    @property
    def plain(self) -> Path:
        return self.folder / "plain"

    @property
    def model_key(self) -> Path:
        return self.folder / "model.key"

    @property
    def owner(self) -> Path:
        return self.folder / "owner.pub"


VECTORS = {1: Vector(1), 2: Vector(2)}


def generate() -> None:
    """Writes the vectors, refusing to replace any."""
    vector = VECTORS[FORMAT_VERSION]
    vector.plain.mkdir(parents=True)
    vector.model_key.write_bytes(folders.KEYS.model_key)
    vector.owner.write_bytes(encode_public_key(folders.KEYS.owner.public_key()))
    original = writer._ObjectWriter.write

    def record(self: writer._ObjectWriter, name: ObjectName, plain: NDArray[np.uint8]) -> None:
        (vector.plain / name.file.removesuffix(".enc")).write_bytes(plain.tobytes())
        original(self, name, plain)

    with (
        TemporaryDirectory() as scratch,
        patch.object(writer._ObjectWriter, "write", record),
        patch("secrets.token_bytes", _fixed(BUNDLE_ID)),
    ):
        folder = folders.make_folder(models.element_types(), Path(scratch) / "golden", count=3)
        keys = replace(folders.KEYS, key_id="golden-1")
        folders.make_bundle(folder, vector.bundle, keys=keys, version=7, period=PERIOD)


def _fixed(value: bytes) -> Callable[[int], bytes]:
    return lambda size: value[:size]


if __name__ == "__main__":
    generate()
