"""The golden bundle opens, and two implementations of AES-GCM and HKDF agree on every byte."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from pathlib import Path

import numpy as np
import pytest
from mbedtls import cipher, hkdf

from app.bundle import BundleReader, read_manifest
from app.keys import read_key_file
from app.objects import chunk_count
from tests.vectors.generate import BUNDLE, BUNDLE_ID, MODEL_KEY, OWNER, PLAIN
from tools.bundling.keys import read_public_key

OBJECTS = (
    "card",
    *(f"{index:05d}.{kind}" for index in range(3) for kind in ("structure", "weights")),
)
KINDS = {"card": 0, "structure": 1, "weights": 2}
DIGEST = "edcdf085477caf3cf1877360d2772ee3561b23664ca2fcf3919dcbe33200fb69"
"""SHA-256 over all files in the order of their names: nobody changes the vector unnoticed."""


@pytest.fixture(scope="module")
def reader() -> BundleReader:
    manifest = read_manifest(BUNDLE, read_public_key(OWNER), minimum_version=7)
    return BundleReader(BUNDLE, manifest, read_key_file(MODEL_KEY))


def test_vector_is_the_one_that_was_committed() -> None:
    digest = hashlib.sha256()
    for path in sorted(BUNDLE.parent.rglob("*")):
        if path.is_file():
            digest.update(str(path.relative_to(BUNDLE.parent)).encode() + path.read_bytes())
    assert digest.hexdigest() == DIGEST


def test_manifest(reader: BundleReader) -> None:
    identity = reader.manifest.identity
    assert (identity.model_id, identity.model_version) == ("golden", 7)
    assert identity.bundle_id == BUNDLE_ID
    assert reader.manifest.chunk_bytes == 4096
    assert [each.weights_bytes for each in reader.manifest.partitions] == [8192, 0, 4096]


def test_appliance_reads_the_known_bytes(reader: BundleReader) -> None:
    assert reader.read_card().to_json() == json.loads((PLAIN / "card").read_bytes())
    for index in range(3):
        layout, graph = reader.read_structure(index)
        plain = (PLAIN / f"{index:05d}.structure").read_bytes()
        (length,) = struct.unpack(">I", plain[:4])
        assert layout.to_json() == json.loads(plain[4 : 4 + length])
        assert graph == plain[4 + length :]
        buffer = np.zeros(reader.weights_bytes(index), dtype=np.uint8)
        reader.read_weights(index, buffer)
        assert buffer.tobytes() == (PLAIN / f"{index:05d}.weights").read_bytes()


@pytest.mark.parametrize("name", OBJECTS)
def test_another_implementation_reads_the_known_bytes(name: str) -> None:
    """Written from the format's description alone, on Mbed TLS instead of OpenSSL."""
    plain = (PLAIN / name).read_bytes()
    place, _, kind = name.rpartition(".")
    found = _decrypt(BUNDLE / f"{name}.enc", KINDS[kind], int(place or 0), len(plain))
    assert found == plain


def _decrypt(path: Path, kind: int, index: int, size: int) -> bytes:
    manifest = json.loads((BUNDLE / "manifest.json").read_bytes())
    bundle_id, chunk_bytes = bytes.fromhex(manifest["bundle_id"]), manifest["chunk_bytes"]
    model_id = manifest["model"]["id"].encode()
    info = b"cloister object key" + struct.pack(">III", 1, kind, index)
    key = hkdf.hkdf(MODEL_KEY.read_bytes(), 32, info, bundle_id)
    bound = (
        b"cloister object"
        + struct.pack(">II", 1, len(model_id))
        + model_id
        + struct.pack(">Q", manifest["model"]["version"])
        + bundle_id
        + struct.pack(">IIIQ", kind, index, len(manifest["partitions"]), size)
    )
    raw, plain = path.read_bytes(), b""
    for chunk in range(chunk_count(size, chunk_bytes)):
        part = raw[chunk * (chunk_bytes + 16) : (chunk + 1) * (chunk_bytes + 16)]
        nonce = struct.pack(">IQ", 0, chunk)
        opened = cipher.AES.new(key, cipher.MODE_GCM, nonce, bound)
        plain += opened.decrypt(part[:-16], part[-16:])
    return plain


def test_signature_covers_the_prefix_and_the_manifest() -> None:
    key = base64.b64decode(OWNER.read_bytes())
    assert len(key) == 32
    signed = b"cloister manifest\0" + (BUNDLE / "manifest.json").read_bytes()
    read_public_key(OWNER).verify((BUNDLE / "manifest.sig").read_bytes(), signed)
