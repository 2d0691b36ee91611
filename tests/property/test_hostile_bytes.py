"""Whatever bytes come, the answer is one of our errors or a value; never anything else."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from app.config import read_config
from app.errors import BundleFormatError, ConfigError, InputError
from app.fields import FieldError, parse_json
from app.manifest import parse_manifest, parse_structure
from app.pictures import picture_tensor
from app.server.oip.compression import inflate
from app.server.oip.datatypes import DATATYPES
from app.server.oip.request import decode_request, read_header_bytes
from tests import fakes
from tools.errors import ModelError
from tools.planner.plan import read_plan

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 80), 1 << 80)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["x", "FP32", "BOOL", "1e999", "\ud800", "\0"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)
BYTES = st.binary(max_size=64) | VALUES.map(lambda value: json.dumps(value).encode())

MANIFEST: dict[str, object] = {
    "format_version": 2,
    "model": {"id": "m", "version": 1},
    "bundle_id": "00" * 32,
    "key_id": "k1",
    "key_check": "01" * 32,
    "released_at": "2026-01-02T03:04:05Z",
    "onnxruntime": "1",
    "optimization": "none",
    "cpu": "any",
    "budget_bytes": 1,
    "chunk_bytes": 4096,
    "card_bytes": 1,
    "partitions": [{"structure_bytes": 5, "weights_bytes": 0}],
}
LAYOUT: dict[str, object] = {
    "inputs": [{"name": "x", "dtype": "float32", "shape": [1, "n"]}],
    "outputs": [{"name": "y", "dtype": "bool", "shape": None}],
    "release": ["x"],
    "weights": [{"name": "w", "dtype": "int8", "shape": [3], "offset": 64}],
    "input_bytes": 0,
    "boundary_bytes": 0,
    "activation_bytes": 0,
    "session_bytes": 0,
    "run_ns": 0,
}
REQUEST: dict[str, object] = {
    "id": "1",
    "parameters": {},
    "inputs": [
        {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]},
        {"name": "count", "datatype": "INT64", "shape": [1], "data": [1]},
    ],
    "outputs": [{"name": "y"}],
}
BINARY_REQUEST: dict[str, object] = {
    "parameters": {"binary_data_output": True, "priority": 1, "timeout": 1},
    "inputs": [
        {"name": "x", "datatype": "FP32", "shape": [1, 4], "parameters": {"binary_data_size": 16}},
        {"name": "count", "datatype": "INT64", "shape": [1], "parameters": {"binary_data_size": 8}},
    ],
    "outputs": [{"name": "y", "parameters": {"binary_data": True, "classification": 2}}],
}
MODEL: dict[str, object] = {
    "id": "m",
    "bundle": "/b",
    "minimum_version": 1,
    "owner_public_key": "A" * 43 + "=",
}
CONFIG: dict[str, object] = {
    "format": 1,
    "sgx_mode": "SIM",
    "production": False,
    "listen": {"host": "::1", "port": 0, "names": ["localhost"]},
    "models": [MODEL],
    "key_folder": "/k",
    "budget_bytes": 1,
    "workers": 1,
    "inference_threads": 1,
    "tls": {"certificate": "/c", "private_key": "/p"},
    "host_mounts": ["/host"],
}


def _packed(raw: bytes) -> bytes:
    return len(raw).to_bytes(4, "big") + raw


@st.composite
def almost(draw: st.DrawFn, right: dict[str, object]) -> bytes:
    """Draws a right JSON text in which one place, anywhere, holds something else."""
    content = json.loads(json.dumps(right))
    place = content
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = draw(st.sampled_from(keys))
        inner = place[key]
        if isinstance(inner, dict | list) and inner and draw(st.booleans()):
            place = inner
            continue
        if isinstance(place, dict) and draw(st.booleans()):
            del place[key]
        place[key if isinstance(key, int) else draw(st.sampled_from([key, "new"]))] = draw(VALUES)
        return json.dumps(content).encode()


@settings(max_examples=200)
@given(BYTES)
@example(b"[" * 100_000)
@example(b'{"a":' * 50_000)
@example(b"1" * 5000)
@example(b"-" + b"9" * 10_000)
@example(b"\xff")
@example(b"\xef\xbb\xbf{}")
@example(b'{"a":1,"a":1}')
@example(b"NaN")
@example(b"")
def test_json(raw: bytes) -> None:
    try:
        parse_json(raw)
    except FieldError as error:
        assert len(str(error)) < 500


def test_right_texts_are_right() -> None:
    """The texts that the tests below spoil are accepted as they are."""
    parse_manifest(json.dumps(MANIFEST).encode())
    parse_structure(_packed(json.dumps(LAYOUT).encode()), 128)
    decode_request(json.dumps(REQUEST).encode(), fakes.TENSOR_CARD)
    head = json.dumps(BINARY_REQUEST).encode()
    decode_request(head + bytes(24), fakes.TENSOR_CARD, len(head))
    assert _config(json.dumps(CONFIG).encode()) is None


@settings(max_examples=200)
@given(BYTES | almost(MANIFEST))
def test_manifest(raw: bytes) -> None:
    try:
        parse_manifest(raw)
    except BundleFormatError as error:
        assert str(error)


@settings(max_examples=200)
@given(BYTES | (BYTES | almost(LAYOUT)).map(_packed), st.integers(0, 200))
def test_structure(raw: bytes, weights_bytes: int) -> None:
    try:
        parse_structure(raw, weights_bytes)
    except BundleFormatError as error:
        assert str(error)


@settings(max_examples=400)
@given(BYTES | almost(REQUEST))
def test_request(raw: bytes) -> None:
    try:
        decode_request(raw, fakes.TENSOR_CARD)
    except InputError as error:
        assert 0 < len(str(error)) < 1000


@settings(max_examples=300)
@given(BYTES | almost(BINARY_REQUEST), st.binary(max_size=40), st.integers(-4, 4))
def test_request_with_binary_data(head: bytes, tensors: bytes, shift: int) -> None:
    raw = head + tensors
    try:
        size = read_header_bytes(str(len(head) + shift), len(raw))
        decode_request(raw, fakes.TENSOR_CARD, size)
    except InputError as error:
        assert 0 < len(str(error)) < 1000


@settings(max_examples=200)
@given(st.sampled_from(sorted(DATATYPES)), st.binary(max_size=40))
def test_raw_tensor(dtype: str, raw: bytes) -> None:
    """Strings too, which the raw form doesn't have."""
    card = replace(fakes.TENSOR_CARD, inputs=(fakes.spec("x", "n", dtype=dtype),))
    tensor = {
        "name": "x",
        "datatype": DATATYPES[dtype],
        "shape": [len(raw) // 6],
        "parameters": {"binary_data_size": len(raw)},
    }
    head = json.dumps({"inputs": [tensor]}).encode()
    for body, size in ((raw, 0), (head + raw, len(head))):
        try:
            decode_request(body, card, size)
        except InputError as error:
            assert 0 < len(str(error)) < 1000


@settings(max_examples=200)
@given(
    st.binary(max_size=200).map(gzip.compress) | st.binary(max_size=64),
    st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), max_size=3),
    st.sampled_from(["gzip", "deflate", "identity", "br", ""]),
)
def test_compressed_body(raw: bytes, changes: list[tuple[int, int]], encoding: str) -> None:
    spoilt = bytearray(raw)
    for place, value in changes if raw else ():
        spoilt[place % len(spoilt)] = value
    try:
        inflate(bytes(spoilt), encoding, 100)
    except InputError as error:
        assert 0 < len(str(error)) < 200


@settings(max_examples=200)
@given(BYTES | almost(CONFIG))
def test_configuration(raw: bytes) -> None:
    error = _config(raw)
    assert error is None or error.problems


@settings(max_examples=50)
@given(BYTES)
def test_plan(raw: bytes) -> None:
    with TemporaryDirectory() as scratch:
        path = Path(scratch) / "plan.json"
        path.write_bytes(raw)
        try:
            read_plan(path)
        except ModelError as error:
            assert str(path) in str(error)


def _config(raw: bytes) -> ConfigError | None:
    with TemporaryDirectory() as scratch:
        path = Path(scratch) / "config.json"
        path.write_bytes(raw)
        try:
            read_config(path)
        except ConfigError as error:
            return error
    return None


def _pictures() -> list[bytes]:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 24, 4), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    found = []
    for mode, kind in (
        ("L", "PNG"),
        ("RGBA", "PNG"),
        ("P", "PNG"),
        ("1", "PNG"),
        ("I;16", "PNG"),
        ("RGB", "JPEG"),
        ("CMYK", "JPEG"),
    ):
        file = io.BytesIO()
        grey = picture.convert("L") if mode == "I;16" else picture
        options = {"progressive": True} if mode == "RGB" else {}
        grey.convert(mode).save(file, kind, **options)
        found.append(file.getvalue())
    return found


def _without_palette() -> bytes:
    """A palette picture whose palette has another name: Pillow asserts that there is one."""
    file = io.BytesIO()
    Image.new("RGB", (4, 4), "red").convert("P").save(file, "PNG")
    raw = file.getvalue()
    start = raw.index(b"PLTE")
    length = int.from_bytes(raw[start - 4 : start], "big")
    chunk = b"prVt" + raw[start + 4 : start + 4 + length]
    checked = chunk + zlib.crc32(chunk).to_bytes(4, "big")
    return raw[:start] + checked + raw[start + len(checked) :]


@settings(max_examples=500)
@given(
    st.sampled_from(_pictures()),
    st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=6),
    st.integers(0, 5000) | st.none(),
)
@example(_without_palette(), [], None)
def test_spoilt_picture(raw: bytes, changes: list[tuple[int, int]], length: int | None) -> None:
    how = fakes.PICTURE_CARD.preprocessing
    assert how is not None
    spoilt = bytearray(raw)
    for place, value in changes:
        spoilt[place % len(spoilt)] = value
    try:
        tensor = picture_tensor(bytes(spoilt[:length]), how)
    except InputError as error:
        assert len(str(error)) < 200
        return
    assert tensor.shape == (1, 1, 2, 2)
    assert np.isfinite(tensor).all()


@given(st.binary(max_size=200))
def test_no_picture_at_all(raw: bytes) -> None:
    how = fakes.PICTURE_CARD.preprocessing
    assert how is not None
    for start in (b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0"):
        try:
            picture_tensor(start + raw, how)
        except InputError as error:
            assert str(error)
