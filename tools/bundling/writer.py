"""Writes an encrypted bundle; app/README.md has the format."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from app.bundle import MANIFEST_FILE, SIGNATURE_FILE, SIGNED_PREFIX
from app.engine import VERSION
from app.manifest import Manifest, PartitionLayout, PartitionSizes, pack_structure
from app.objects import (
    BUNDLE_ID_BYTES,
    TAG_BYTES,
    Identity,
    Kind,
    ObjectName,
    associated_data,
    chunk_nonce,
    key_check,
    object_key,
)
from app.release import FORMAT_VERSION, Release, write_time
from tools.errors import ModelError
from tools.files import new_folder
from tools.graph.structure import Structure, separate
from tools.model_folder import ModelFolder, changed_files
from tools.planner.plan import Partition

_KEY_ID_DIGITS: Final = 16


@dataclass(frozen=True, slots=True)
class BundleKeys:
    """What a bundle is written with.

    Attributes:
        model_key: 32 secret bytes from which every object's key is derived.
        owner: signs the manifest.
        key_id: names the model key to people and key services; None for a name that is derived
            from it and tells nothing of it.
    """

    model_key: bytes
    owner: Ed25519PrivateKey
    key_id: str | None = None


@dataclass(frozen=True, slots=True)
class Period:
    """For which time a bundle is.

    Attributes:
        released_at: from when on; with its time zone.
        expires_at: until when; None for ever.
    """

    released_at: datetime
    expires_at: datetime | None = None

    @classmethod
    def from_now(cls) -> Period:
        """Gives the time from now on, for ever."""
        return cls(datetime.now(UTC).replace(microsecond=0))


def write_bundle(
    folder: ModelFolder,
    keys: BundleKeys,
    target: Path,
    progress: Callable[[int], None],
    period: Period | None = None,
) -> Manifest:
    """Encrypts a model's partitions and signs their manifest.

    Each call draws a new bundle id, so no key is used twice even when the same
    model is written again under the same model key.

    Args:
        folder: the model with its plan and partitions.
        keys: the owner's.
        target: the bundle's folder; it appears whole or not at all.
        progress: called with the number of partitions written.
        period: when it may be served; from now on if None.

    Raises:
        ModelError: when a partition isn't the planned one, the period has no end after its
            beginning, or something else than a bundle
            stands at `target`.
    """
    if problems := changed_files(folder):
        raise ModelError(f"{folder.path}: " + "; ".join(problems))
    if target.exists() and not (target / MANIFEST_FILE).exists():
        raise ModelError(f"{target}: exists and isn't a bundle, so it isn't replaced")
    bundle_id = secrets.token_bytes(BUNDLE_ID_BYTES)
    identity = Identity(folder.model_id, folder.model_version, bundle_id, FORMAT_VERSION)
    release = _release(keys, period or Period.from_now(), bundle_id)
    with new_folder(target) as work:
        writer = _ObjectWriter(work, keys.model_key, identity, folder.plan.chunk_bytes)
        manifest = _write_objects(folder, writer, release, progress)
        raw = (json.dumps(manifest.to_json(), indent=1) + "\n").encode()
        (work / MANIFEST_FILE).write_bytes(raw)
        (work / SIGNATURE_FILE).write_bytes(keys.owner.sign(SIGNED_PREFIX + raw))
    return manifest


def default_key_id(model_key: bytes) -> str:
    """Gives a model key's name where its owner gives it none: 16 hex digits."""
    return key_check(model_key, b"").hex()[:_KEY_ID_DIGITS]


def _release(keys: BundleKeys, period: Period, bundle_id: bytes) -> Release:
    if period.expires_at is not None and period.expires_at <= period.released_at:
        raise ModelError(
            f"the bundle would expire at {write_time(period.expires_at)}, before it is released "
            f"at {write_time(period.released_at)}"
        )
    return Release(
        key_id=keys.key_id or default_key_id(keys.model_key),
        key_check=key_check(keys.model_key, bundle_id),
        released_at=period.released_at,
        expires_at=period.expires_at,
    )


def _write_objects(
    folder: ModelFolder,
    writer: _ObjectWriter,
    release: Release,
    progress: Callable[[int], None],
) -> Manifest:
    partitions = folder.plan.partitions
    count = len(partitions)
    card = _compact(folder.card.to_json())
    writer.write(ObjectName(Kind.CARD, 0, count), np.frombuffer(card, dtype=np.uint8))
    sizes = []
    for partition in partitions:
        structure = partition_structure(folder, partition)
        sizes.append(_write_partition(writer, partition, structure, count))
        progress(partition.index + 1)
    return Manifest(
        identity=writer.identity,
        release=release,
        onnxruntime=VERSION,
        optimization=folder.plan.optimization,
        cpu=folder.plan.cpu,
        budget_bytes=folder.plan.budget_bytes,
        chunk_bytes=writer.chunk_bytes,
        card_bytes=len(card),
        partitions=tuple(sizes),
    )


def partition_structure(folder: ModelFolder, partition: Partition) -> Structure:
    """Separates a partition's weights from its structure.

    Raises:
        ModelError: when the partition can't be read.
    """
    return separate(
        folder.partition_path(partition.index),
        [spec.name for spec in partition.inputs],
        [spec.name for spec in partition.outputs],
    )


def layout_of(partition: Partition, structure: Structure) -> PartitionLayout:
    """Describes a partition to the runner."""
    return PartitionLayout(
        inputs=partition.inputs,
        outputs=partition.outputs,
        release=partition.release,
        weights=structure.weights,
        input_bytes=partition.input_bytes,
        boundary_bytes=partition.boundary_bytes,
        activation_bytes=partition.activation_bytes,
        session_bytes=partition.session_bytes,
        run_ns=partition.run_ns,
    )


def _write_partition(
    writer: _ObjectWriter, partition: Partition, structure: Structure, count: int
) -> PartitionSizes:
    plain = pack_structure(_compact(layout_of(partition, structure).to_json()), structure.graph)
    weights = np.empty(structure.weights_bytes, dtype=np.uint8)
    structure.fill(weights)
    index = partition.index
    writer.write(ObjectName(Kind.STRUCTURE, index, count), np.frombuffer(plain, dtype=np.uint8))
    writer.write(ObjectName(Kind.WEIGHTS, index, count), weights)
    return PartitionSizes(len(plain), weights.nbytes)


class _ObjectWriter:
    """Encrypts objects of one bundle into files."""

    def __init__(
        self, folder: Path, model_key: bytes, identity: Identity, chunk_bytes: int
    ) -> None:
        self.identity = identity
        self.chunk_bytes = chunk_bytes
        self._folder = folder
        self._model_key = model_key
        self._scratch = np.empty(chunk_bytes + TAG_BYTES, dtype=np.uint8)

    def write(self, name: ObjectName, plain: NDArray[np.uint8]) -> None:
        """Encrypts one object; the file is new, its name can't have been used before."""
        cipher = object_key(self._model_key, self.identity, name)
        bound = associated_data(self.identity, name, plain.nbytes)
        with (self._folder / name.file).open("xb") as file:
            for chunk, start in enumerate(range(0, max(1, plain.nbytes), self.chunk_bytes)):
                part = plain[start : start + self.chunk_bytes]
                ciphertext = self._scratch[: part.nbytes + TAG_BYTES]
                cipher.encrypt_into(chunk_nonce(chunk), part.data, bound, ciphertext.data)
                file.write(ciphertext.data)


def _compact(content: dict[str, object]) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()
