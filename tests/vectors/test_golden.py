"""The golden bundle opens, and two implementations of AES-GCM and HKDF agree on every byte."""

from __future__ import annotations

import base64
import hashlib
import json
import struct

import numpy as np
import pytest
from mbedtls import cipher, hkdf
from mbedtls.exceptions import TLSError

from app.bundle import BundleReader, read_manifest
from app.keys import read_key_file
from app.objects import chunk_count
from tests.vectors.generate import BUNDLE_ID, VECTORS, Vector
from tools.bundling.keys import read_public_key

OBJECTS = (
    "card",
    *(f"{index:05d}.{kind}" for index in range(3) for kind in ("structure", "weights")),
)
KINDS = {"card": 0, "structure": 1, "weights": 2}
DIGESTS = {
    1: "edcdf085477caf3cf1877360d2772ee3561b23664ca2fcf3919dcbe33200fb69",
    2: "0e2e7b6ad853460a325c790cfd64365e43b07358a7a7110dbc1bc39b9c833547",
}
"""SHA-256 over all files in the order of their names: nobody changes a vector unnoticed."""


@pytest.fixture(params=VECTORS.values(), ids=lambda vector: f"format {vector.version}")
def vector(request: pytest.FixtureRequest) -> Vector:
    found: Vector = request.param
    return found


@pytest.fixture
def reader(vector: Vector) -> BundleReader:
    manifest = read_manifest(vector.bundle, read_public_key(vector.owner), minimum_version=7)
    return BundleReader(vector.bundle, manifest, read_key_file(vector.model_key))


def test_vector_is_the_one_that_was_committed(vector: Vector) -> None:
    digest = hashlib.sha256()
    for path in sorted(vector.folder.rglob("*")):
        if path.is_file():
            digest.update(str(path.relative_to(vector.folder)).encode() + path.read_bytes())
    assert digest.hexdigest() == DIGESTS[vector.version]


def test_manifest(reader: BundleReader, vector: Vector) -> None:
    identity = reader.manifest.identity
    assert (identity.model_id, identity.model_version) == ("golden", 7)
    assert identity.bundle_id == BUNDLE_ID
    assert identity.format_version == vector.version
    assert reader.manifest.chunk_bytes == 4096
    weights_bytes = [each.weights_bytes for each in reader.manifest.partitions]
    assert weights_bytes == {1: [8192, 0, 4096], 2: [0, 8192, 4096]}[vector.version]


def test_format_1_says_nothing_of_its_key_and_format_2_does() -> None:
    old, new = (json.loads((v.bundle / "manifest.json").read_bytes()) for v in VECTORS.values())
    release = {name: new[name] for name in new.keys() - old.keys()}
    assert release == {
        "key_id": "golden-1",
        "key_check": hkdf.hkdf(
            VECTORS[2].model_key.read_bytes(), 32, b"cloister key check 1\0", BUNDLE_ID
        ).hex(),
        "released_at": "2026-01-02T03:04:05Z",
        "expires_at": "2999-12-31T00:00:00Z",
    }


def test_appliance_reads_the_known_bytes(reader: BundleReader, vector: Vector) -> None:
    assert reader.read_card().to_json() == json.loads((vector.plain / "card").read_bytes())
    for index in range(3):
        layout, graph = reader.read_structure(index)
        plain = (vector.plain / f"{index:05d}.structure").read_bytes()
        (length,) = struct.unpack(">I", plain[:4])
        assert layout.to_json() == json.loads(plain[4 : 4 + length])
        assert graph == plain[4 + length :]
        buffer = np.zeros(reader.weights_bytes(index), dtype=np.uint8)
        reader.read_weights(index, buffer)
        assert buffer.tobytes() == (vector.plain / f"{index:05d}.weights").read_bytes()


@pytest.mark.parametrize("name", OBJECTS)
def test_another_implementation_reads_the_known_bytes(vector: Vector, name: str) -> None:
    """Written from the format's description alone, on Mbed TLS instead of OpenSSL."""
    assert _decrypt(vector, name, vector.version) == (vector.plain / name).read_bytes()


def _decrypt(vector: Vector, name: str, version: int) -> bytes:
    manifest = json.loads((vector.bundle / "manifest.json").read_bytes())
    place, _, word = name.rpartition(".")
    kind, index, size = KINDS[word], int(place or 0), (vector.plain / name).stat().st_size
    bundle_id, chunk_bytes = bytes.fromhex(manifest["bundle_id"]), manifest["chunk_bytes"]
    model_id = manifest["model"]["id"].encode()
    info = b"cloister object key" + struct.pack(">III", version, kind, index)
    key = hkdf.hkdf(vector.model_key.read_bytes(), 32, info, bundle_id)
    bound = (
        b"cloister object"
        + struct.pack(">II", version, len(model_id))
        + model_id
        + struct.pack(">Q", manifest["model"]["version"])
        + bundle_id
        + struct.pack(">IIIQ", kind, index, len(manifest["partitions"]), size)
    )
    raw, plain = (vector.bundle / f"{name}.enc").read_bytes(), b""
    for chunk in range(chunk_count(size, chunk_bytes)):
        part = raw[chunk * (chunk_bytes + 16) : (chunk + 1) * (chunk_bytes + 16)]
        nonce = struct.pack(">IQ", 0, chunk)
        opened = cipher.AES.new(key, cipher.MODE_GCM, nonce, bound)
        plain += opened.decrypt(part[:-16], part[-16:])
    return plain


def test_signature_covers_the_prefix_and_the_manifest(vector: Vector) -> None:
    key = base64.b64decode(vector.owner.read_bytes())
    assert len(key) == 32
    signed = b"cloister manifest\0" + (vector.bundle / "manifest.json").read_bytes()
    read_public_key(vector.owner).verify((vector.bundle / "manifest.sig").read_bytes(), signed)


@pytest.mark.parametrize("name", OBJECTS)
def test_objects_of_one_format_are_none_of_another(vector: Vector, name: str) -> None:
    """Same model key and bundle id: the format's number alone keeps the bundles apart."""
    with pytest.raises(TLSError):
        _decrypt(vector, name, 3 - vector.version)
