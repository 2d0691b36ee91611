"""Writes an encrypted bundle; app/README.md has the format."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

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
    object_key,
)
from tools.errors import ModelError
from tools.files import new_folder
from tools.graph.structure import Structure, separate
from tools.model_folder import ModelFolder, changed_files
from tools.planner.plan import Partition


@dataclass(frozen=True, slots=True)
class BundleKeys:
    """What a bundle is written with.

    Attributes:
        model_key: 32 secret bytes from which every object's key is derived.
        owner: signs the manifest.
    """

    model_key: bytes
    owner: Ed25519PrivateKey


def write_bundle(
    folder: ModelFolder,
    keys: BundleKeys,
    target: Path,
    progress: Callable[[int], None],
) -> Manifest:
    """Encrypts a model's partitions and signs their manifest.

    Each call draws a new bundle id, so no key is used twice even when the same
    model is written again under the same model key.

    Args:
        folder: the model with its plan and partitions.
        keys: the owner's.
        target: the bundle's folder; it appears whole or not at all.
        progress: called with the number of partitions written.

    Raises:
        ModelError: when a partition isn't the planned one, or something else than a bundle
            stands at `target`.
    """
    if problems := changed_files(folder):
        raise ModelError(f"{folder.path}: " + "; ".join(problems))
    if target.exists() and not (target / MANIFEST_FILE).exists():
        raise ModelError(f"{target}: exists and isn't a bundle, so it isn't replaced")
    identity = Identity(folder.model_id, folder.model_version, secrets.token_bytes(BUNDLE_ID_BYTES))
    with new_folder(target) as work:
        writer = _ObjectWriter(work, keys.model_key, identity, folder.plan.chunk_bytes)
        manifest = _write_objects(folder, writer, progress)
        raw = (json.dumps(manifest.to_json(), indent=1) + "\n").encode()
        (work / MANIFEST_FILE).write_bytes(raw)
        (work / SIGNATURE_FILE).write_bytes(keys.owner.sign(SIGNED_PREFIX + raw))
    return manifest


def _write_objects(
    folder: ModelFolder,
    writer: _ObjectWriter,
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
        cipher = object_key(self._model_key, self.identity.bundle_id, name)
        bound = associated_data(self.identity, name, plain.nbytes)
        with (self._folder / name.file).open("xb") as file:
            for chunk, start in enumerate(range(0, max(1, plain.nbytes), self.chunk_bytes)):
                part = plain[start : start + self.chunk_bytes]
                ciphertext = self._scratch[: part.nbytes + TAG_BYTES]
                cipher.encrypt_into(chunk_nonce(chunk), part.data, bound, ciphertext.data)
                file.write(ciphertext.data)


def _compact(content: dict[str, object]) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()
