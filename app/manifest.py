"""The signed manifest of a bundle and the layout of a partition, parsed once into frozen values."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from math import prod
from typing import Final, TypeVar

from app.cpu import CLASSES
from app.errors import BundleFormatError
from app.fields import FieldError, Fields, parse_json
from app.limits import MIB
from app.objects import BUNDLE_ID_BYTES, Identity
from app.release import NAME, RELEASES, Release, read_bytes, read_name
from app.tensors import TensorSpec, packed_bytes, read_spec

T = TypeVar("T")

MAX_MANIFEST_BYTES: Final = 16 * MIB
"""A manifest of 100,000 partitions is about 10 MiB."""
MAX_PARTITIONS: Final = 100_000
MAX_OBJECT_BYTES: Final = 1 << 40
MAX_RUN_NS: Final = 1 << 50
MAX_VERSION: Final = (1 << 31) - 1
MIN_CHUNK_BYTES: Final = 4096
MAX_CHUNK_BYTES: Final = 64 * MIB
MAX_VALUES: Final = 100_000
"""Tensors, weights or released names of one partition."""
MODEL_ID: Final = NAME
"""A model id is a path component of URLs and key files, so its characters are few."""
OPTIMIZATIONS: Final = ("none", "extended", "all")


@dataclass(frozen=True, slots=True)
class PartitionSizes:
    """Plaintext sizes of a partition's two objects, in bytes."""

    structure_bytes: int
    weights_bytes: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What the owner signed. The host can read it, so it names nothing of the model's inside.

    Attributes:
        identity: model id, version, the bundle's random id and its format.
        release: which key it is for, and when; None in format 1.
        onnxruntime: the version whose optimiser wrote the structures.
        optimization: "none", "extended" (runs on any CPU) or "all" (the build machine's CPU class).
        cpu: the class of CPU that the structures are for: a key of `app.cpu.CLASSES`.
        budget_bytes: the budget that the plan was made for.
        chunk_bytes: plaintext bytes of a chunk.
        card_bytes: plaintext size of the model card.
        partitions: in the order in which they run.
    """

    identity: Identity
    release: Release | None
    onnxruntime: str
    optimization: str
    cpu: str
    budget_bytes: int
    chunk_bytes: int
    card_bytes: int
    partitions: tuple[PartitionSizes, ...]

    def commits_to(self, model_key: bytes) -> bool:
        """Says whether the owner signed for this key; in format 1 he signed for any."""
        return self.release is None or self.release.commits_to(model_key, self.identity.bundle_id)

    def check_expiry(self, now: datetime) -> None:
        """Refuses a bundle whose time is over.

        Raises:
            BundleRefusedError: it has expired.
        """
        if self.release is not None:
            self.release.check_expiry(now)

    def to_json(self) -> dict[str, object]:
        """Gives the form that `parse_manifest` reads."""
        return {
            "format_version": self.identity.format_version,
            "model": {"id": self.identity.model_id, "version": self.identity.model_version},
            "bundle_id": self.identity.bundle_id.hex(),
            **({} if self.release is None else self.release.to_json()),
            "onnxruntime": self.onnxruntime,
            "optimization": self.optimization,
            "cpu": self.cpu,
            "budget_bytes": self.budget_bytes,
            "chunk_bytes": self.chunk_bytes,
            "card_bytes": self.card_bytes,
            "partitions": [
                {"structure_bytes": each.structure_bytes, "weights_bytes": each.weights_bytes}
                for each in self.partitions
            ],
        }


@dataclass(frozen=True, slots=True)
class Weight:
    """One tensor inside a weights object.

    Attributes:
        name: the graph input that it feeds.
        dtype: a key of `app.tensors.ITEM_BITS`.
        shape: its sizes.
        offset: where it starts, in bytes; a multiple of 64.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int

    @property
    def size_bytes(self) -> int:
        """Its size in bytes."""
        return packed_bytes(self.dtype, prod(self.shape))


@dataclass(frozen=True, slots=True)
class PartitionLayout:
    """How a partition is wired; kept encrypted with its structure.

    Attributes:
        inputs: boundary tensors and model inputs that it reads.
        outputs: tensors that later partitions or the caller need.
        release: names that nobody needs after it.
        weights: what its weights object holds.
        input_bytes: size of its inputs in the request that the plan was made for.
        boundary_bytes: tensors of one such request that live across its start.
        activation_bytes: predicted peak of what it allocates while it runs.
        session_bytes: predicted size of its resident structure.
        run_ns: predicted time of computing; only ratios matter.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    release: tuple[str, ...]
    weights: tuple[Weight, ...]
    input_bytes: int
    boundary_bytes: int
    activation_bytes: int
    session_bytes: int
    run_ns: int

    def to_json(self) -> dict[str, object]:
        """Gives the form that `parse_structure` reads."""
        return {
            "inputs": [spec.to_json() for spec in self.inputs],
            "outputs": [spec.to_json() for spec in self.outputs],
            "release": list(self.release),
            "weights": [
                {"name": w.name, "dtype": w.dtype, "shape": list(w.shape), "offset": w.offset}
                for w in self.weights
            ],
            "input_bytes": self.input_bytes,
            "boundary_bytes": self.boundary_bytes,
            "activation_bytes": self.activation_bytes,
            "session_bytes": self.session_bytes,
            "run_ns": self.run_ns,
        }


def parse_manifest(raw: bytes) -> Manifest:
    """Parses a manifest whose signature holds.

    Args:
        raw: the exact bytes that were signed.

    Raises:
        BundleFormatError: for unknown fields or versions and numbers out of bounds.
    """
    return _translated("manifest.json", lambda: _read_manifest(Fields(parse_json(raw), "manifest")))


def _read_manifest(fields: Fields) -> Manifest:
    version = fields.integer("format_version", least=0, most=1 << 31)
    read_release = RELEASES.get(version)
    if read_release is None:
        readable = " and ".join(map(str, RELEASES))
        raise FieldError(f"format version {version}: this appliance reads versions {readable}")
    model = fields.inner("model")
    identity = Identity(
        read_model_id(model),
        read_model_version(model),
        read_bytes(fields, "bundle_id", BUNDLE_ID_BYTES),
        version,
    )
    model.done()
    manifest = Manifest(
        identity=identity,
        release=read_release(fields),
        onnxruntime=fields.text("onnxruntime", longest=64),
        optimization=fields.choice("optimization", OPTIMIZATIONS),
        cpu=fields.choice("cpu", CLASSES),
        budget_bytes=fields.integer("budget_bytes", least=1, most=MAX_OBJECT_BYTES),
        chunk_bytes=fields.integer("chunk_bytes", least=MIN_CHUNK_BYTES, most=MAX_CHUNK_BYTES),
        card_bytes=fields.integer("card_bytes", least=1, most=MAX_MANIFEST_BYTES),
        partitions=fields.each("partitions", _read_sizes, most=MAX_PARTITIONS),
    )
    fields.done()
    if not manifest.partitions:
        raise FieldError("manifest.partitions: a bundle has at least one partition")
    return manifest


def read_model_id(fields: Fields) -> str:
    """Takes the field "id": lower-case letters, digits, '.', '_' and '-', at most 64."""
    return read_name(fields, "id")


def read_model_version(fields: Fields) -> int:
    """Takes the field "version": a whole number from 1."""
    return fields.integer("version", least=1, most=MAX_VERSION)


def _read_sizes(fields: Fields) -> PartitionSizes:
    return PartitionSizes(
        fields.integer("structure_bytes", least=5, most=MAX_OBJECT_BYTES),
        fields.integer("weights_bytes", least=0, most=MAX_OBJECT_BYTES),
    )


def pack_structure(layout: bytes, graph: bytes) -> bytes:
    """Joins a layout's JSON text and a graph's ONNX bytes into a structure object."""
    return struct.pack(">I", len(layout)) + layout + graph


def parse_structure(plaintext: bytes, weights_bytes: int) -> tuple[PartitionLayout, bytes]:
    """Splits an authenticated structure object into layout and ONNX graph.

    Args:
        plaintext: the object's bytes.
        weights_bytes: size of the weights object that the layout must stay inside.

    Raises:
        BundleFormatError: for a layout that doesn't follow the format.
    """
    if len(plaintext) < 4:
        raise BundleFormatError("structure: shorter than its length field")
    (length,) = struct.unpack_from(">I", plaintext)
    if length > len(plaintext) - 4:
        raise BundleFormatError(f"structure: its layout of {length} bytes runs past its end")
    raw = plaintext[4 : 4 + length]
    layout = _translated("structure", lambda: _read_layout(Fields(parse_json(raw), "layout")))
    end = max((weight.offset + weight.size_bytes for weight in layout.weights), default=0)
    if end > weights_bytes:
        raise BundleFormatError(f"structure: weights end at {end}, the object at {weights_bytes}")
    return layout, plaintext[4 + length :]


def _read_layout(fields: Fields) -> PartitionLayout:
    layout = PartitionLayout(
        inputs=fields.each("inputs", read_spec, most=MAX_VALUES),
        outputs=fields.each("outputs", read_spec, most=MAX_VALUES),
        release=fields.texts("release", most=MAX_VALUES),
        weights=fields.each("weights", _read_weight, most=MAX_VALUES),
        input_bytes=fields.integer("input_bytes", least=0, most=MAX_OBJECT_BYTES),
        boundary_bytes=fields.integer("boundary_bytes", least=0, most=MAX_OBJECT_BYTES),
        activation_bytes=fields.integer("activation_bytes", least=0, most=MAX_OBJECT_BYTES),
        session_bytes=fields.integer("session_bytes", least=0, most=MAX_OBJECT_BYTES),
        run_ns=fields.integer("run_ns", least=0, most=MAX_RUN_NS),
    )
    fields.done()
    return layout


def _read_weight(fields: Fields) -> Weight:
    spec = read_spec(fields)
    if spec.dtype == "string" or spec.shape is None:
        raise FieldError(f"{fields.where}: a weight has a fixed size")
    shape = tuple(size for size in spec.shape if isinstance(size, int))
    if len(shape) != len(spec.shape):
        raise FieldError(f"{fields.where}.shape: a weight has no symbolic dimension")
    offset = fields.integer("offset", least=0, most=MAX_OBJECT_BYTES)
    if offset % 64:
        raise FieldError(f"{fields.where}.offset: expected a multiple of 64, got {offset}")
    return Weight(spec.name, spec.dtype, shape, offset)


def _translated(what: str, read: Callable[[], T]) -> T:
    try:
        return read()
    except FieldError as error:
        raise BundleFormatError(f"{what}: {error}") from error
