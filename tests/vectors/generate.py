"""Makes the golden bundle of format version 1: `python -m tests.vectors.generate`.

It was run once, and what it wrote is committed: a change of the format must
not go unnoticed because both sides changed. Run it again only for a new format
version, into a new folder, and keep the old one.

The model is `tests.models.element_types()` cut into three partitions; the first
has weights of two chunks, the second none, so its weights object is empty.
Written beside the bundle are the keys (test data, they protect nothing) and
every object's plaintext, taken before it was encrypted.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from app.objects import ObjectName
from tests import folders, models
from tools.bundling import writer
from tools.bundling.keys import encode_public_key

FOLDER = Path(__file__).parent / "v1"
BUNDLE = FOLDER / "golden.bundle"
PLAIN = FOLDER / "plain"
MODEL_KEY = FOLDER / "model.key"
OWNER = FOLDER / "owner.pub"
BUNDLE_ID = bytes(range(200, 232))


def generate() -> None:
    """Writes the vectors, refusing to replace any."""
    PLAIN.mkdir(parents=True)
    MODEL_KEY.write_bytes(folders.KEYS.model_key)
    OWNER.write_bytes(encode_public_key(folders.KEYS.owner.public_key()))
    original = writer._ObjectWriter.write

    def record(self: writer._ObjectWriter, name: ObjectName, plain: NDArray[np.uint8]) -> None:
        (PLAIN / name.file.removesuffix(".enc")).write_bytes(plain.tobytes())
        original(self, name, plain)

    with (
        TemporaryDirectory() as scratch,
        patch.object(writer._ObjectWriter, "write", record),
        patch("secrets.token_bytes", _fixed(BUNDLE_ID)),
    ):
        folder = folders.make_folder(models.element_types(), Path(scratch) / "golden", count=3)
        folders.make_bundle(folder, BUNDLE, version=7)


def _fixed(value: bytes) -> Callable[[int], bytes]:
    return lambda size: value[:size]


if __name__ == "__main__":
    generate()
