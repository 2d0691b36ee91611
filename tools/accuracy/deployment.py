"""A model's partitions run as they are deployed: from an encrypted bundle, by the app's runner."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from app.bundle import BundleReader, read_manifest
from app.engine import OrtEngine
from app.objects import KEY_BYTES
from app.runner import Reader, Runner
from tools.bundling.writer import BundleKeys, write_bundle
from tools.model_folder import ModelFolder


def encrypted_reader(folder: ModelFolder, target: Path) -> BundleReader:
    """Writes a bundle under keys that nobody keeps, and opens it.

    Raises:
        ModelError: when the partitions aren't the planned ones.
    """
    keys = BundleKeys(secrets.token_bytes(KEY_BYTES), Ed25519PrivateKey.generate())
    write_bundle(folder, keys, target, progress=lambda _: None)
    manifest = read_manifest(target, keys.owner.public_key(), minimum_version=1)
    return BundleReader(target, manifest, keys.model_key)


@contextmanager
def running(
    folder: ModelFolder,
    reader: Reader,
    *,
    growth: int = 1,
    lock_step: int = 1,
    overlap: bool,
    engine: OrtEngine | None = None,
) -> Iterator[Runner]:
    """Gives a runner over a reader's partitions.

    Args:
        folder: the model.
        reader: gives the partitions.
        growth: how many times larger than the planned request the largest one is.
        lock_step: most requests that share one loading of a partition.
        overlap: whether the next weights are loaded while a partition runs.
        engine: computes; a plain one when None.
    """
    plan = folder.plan
    runner = Runner(
        reader,
        engine or OrtEngine(),
        # The planned budget is for one request of the planned size.
        plan.budget_bytes * growth * lock_step,
        plan.inputs,
        plan.outputs,
        growth=growth,
        lock_step=lock_step,
        overlap=overlap,
    )
    try:
        yield runner
    finally:
        runner.close()
