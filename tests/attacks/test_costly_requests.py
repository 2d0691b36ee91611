"""Small requests that would cost much: refused before they do, and others aren't kept waiting."""

from __future__ import annotations

import gzip
import io
import json
import struct
import sys
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from PIL import Image

from app.access.admission import Gate, Pass
from app.access.policy import Quotas
from app.card import Preprocessing
from app.errors import CancelledError, PayloadTooLargeError, UnsupportedMediaError
from app.fields import parse_json
from app.limits import (
    FREE_JSON_BYTES,
    MAX_JSON_BYTES,
    MAX_JSON_ELEMENTS,
    MAX_PICTURE_PIXELS,
    MAX_SCANNED_PIXELS,
    MAX_SCANS,
)
from app.pictures import open_picture, picture_tensor
from app.server.oip import numbers as writing
from app.server.oip.bounds import json_bytes
from app.server.wsgi import ADMISSION, CLIENT_GONE
from app.tensors import Array, TensorSpec
from tests import fakes, served
from tests.policies import head, policy, tenant
from tests.unit.app.server.oip.bodies import card_of
from tests.unit.app.server.routes.requests import INFER, SHADES, SUMS, picture

HEADER = "Inference-Header-Content-Length"
WIDE = "/v2/models/wide/infer"
FIXED = "/v2/models/fixed/infer"
TEXTS = "/v2/models/texts/infer"
HOW = Preprocessing("NCHW", 1, 2, 2, "stretch", "nearest", 255.0, (0.0,), (1.0,), invert=False)


def card(dtype: str, *shape: int | str) -> Any:
    tensor = TensorSpec("x", dtype, shape)
    return replace(fakes.TENSOR_CARD, inputs=(tensor,), outputs=(replace(tensor, name="y"),))


def relu(values: Mapping[str, Array]) -> dict[str, Array]:
    return {"y": values["x"]}


@pytest.fixture
def models() -> served.Models:
    return served.models(
        wide=served.Model("wide", 1, card("float32", "n"), relu),
        fixed=served.Model("fixed", 1, card("float32", 1, 32, 32), relu),
        texts=served.Model("texts", 1, card("string", "n"), relu),
        unknown=served.Model(
            "unknown",
            1,
            replace(card("float32", "n"), outputs=(TensorSpec("y", "float32", ("m",)),)),
            relu,
        ),
    )


@pytest.fixture
def client(models: served.Models) -> FlaskClient:
    return served.client(models)


def numbers(count: int, shape: list[int], item: bytes = b"1") -> bytes:
    tensor = {"name": "x", "shape": shape, "datatype": "FP32", "data": "HERE"}
    text = json.dumps({"inputs": [tensor]}).encode()
    return text.replace(b'"HERE"', b"[" + (item + b",") * (count - 1) + item + b"]")


# --- JSON that comes in ---------------------------------------------------------------------------

MANY = (MAX_JSON_BYTES - 1000) // 2


@pytest.mark.parametrize("path", [FIXED, WIDE])
@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
@pytest.mark.parametrize("item", [b"1", b"1.5", b" ", b"[]", b"{}", b'"a"', b"null"])
def test_a_few_bytes_that_inflate_to_megabytes_of_json(
    client: FlaskClient,
    models: served.Models,
    path: str,
    pack: Callable[[bytes], bytes],
    item: bytes,
) -> None:
    body = pack(numbers(MANY * 2 // (len(item) + 1), [1, 32, 32], item))
    encoding = "gzip" if pack is gzip.compress else "deflate"
    for headers in ({}, {HEADER: str(MAX_JSON_BYTES)}, {HEADER: str(FREE_JSON_BYTES)}):
        answer = client.post(path, data=body, headers={"Content-Encoding": encoding, **headers})
        assert answer.status_code in (400, 413)
    assert models.calls == []


@pytest.fixture
def unparsed(monkeypatch: pytest.MonkeyPatch) -> None:
    def parse(_: bytes) -> None:
        raise AssertionError("parsed")

    monkeypatch.setattr("app.server.oip.request.parse_json", parse)


@pytest.mark.usefixtures("unparsed")
@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        (FIXED, numbers(MANY, [1, 32, 32]), "for this model at most 131072"),
        (FIXED, numbers(60_000, [1, 32, 32]), "more values than the 1024 elements"),
        (FIXED, numbers(60_000, [60_000]), "more values than the 1024 elements"),
        (FIXED, b'{"id":"\\"shape\\":[60000]",' + numbers(60_000, [4])[1:], "more values than"),
        (WIDE, numbers(MANY // 2, [1 << 40], b"[]"), "more than 65536 arrays"),
        (WIDE, numbers(70_000, [70_000], b"[1]"), "more than 65536 arrays"),
        (WIDE, numbers(70_000, [70_000], b"{}"), "more than 65536 arrays"),
        (TEXTS, numbers(70_000, [70_000], b"[]"), "more than 65536 arrays"),
        (TEXTS, numbers(140_000, [140_000], b'""'), "more than 131072 strings"),
        (WIDE, numbers(800_000, [800_000], b'"ab"'), "more than 131072 strings"),
    ],
)
def test_json_that_cannot_be_right_is_not_parsed(
    client: FlaskClient, path: str, body: bytes, said: str
) -> None:
    answer = client.post(path, data=body)
    assert answer.status_code == 413
    assert said in answer.get_json()["error"]
    binary = client.post(path, data=body + bytes(4), headers={HEADER: str(len(body))})
    assert binary.status_code == 413


@pytest.mark.parametrize("shape", [[1024], [32, 32], [1 << 40], [MANY, 2]])
def test_other_values_than_a_shape_claims_never_reach_a_model(
    client: FlaskClient, models: served.Models, shape: list[int]
) -> None:
    """Where a model's sizes vary a request may claim any, so only the size of its JSON is bound."""
    answer = client.post(WIDE, data=numbers(MANY, shape))
    assert answer.status_code in (400, 413)
    assert models.calls == []


@pytest.mark.parametrize("nested", [False, True])
def test_as_much_json_as_a_model_takes_is_served(client: FlaskClient, nested: bool) -> None:
    x = np.random.default_rng(0).normal(size=(1, 32, 32))
    tensor = {"name": "x", "shape": [1, 32, 32], "datatype": "FP32"}
    tensor["data"] = (x if nested else x.reshape(-1)).tolist()
    body = json.dumps({"inputs": [tensor]}, indent=4).encode()
    assert len(body) > 1024 * 36
    for headers, data in (({}, body), ({"Content-Encoding": "gzip"}, gzip.compress(body))):
        answer = client.post(FIXED, data=data, headers=headers)
        assert answer.status_code == 200
        y = np.array(answer.get_json()["outputs"][0]["data"], np.float32)
        np.testing.assert_array_equal(y, x.astype(np.float32).reshape(-1))


def test_texts_may_hold_any_number_of_commas(client: FlaskClient) -> None:
    tensor = {"name": "x", "shape": [1], "datatype": "BYTES", "data": ["a,b," * 100_000]}
    assert client.post(TEXTS, json={"inputs": [tensor]}).status_code == 200


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        (("float32", 1, 32, 32), FREE_JSON_BYTES + 64 * 1024),
        (("float32", 0), FREE_JSON_BYTES),
        (("float32", 4096, 4096), MAX_JSON_BYTES),
        (("float32", "n", 4), MAX_JSON_BYTES),
        (("string", 1), MAX_JSON_BYTES),
    ],
)
def test_how_large_json_may_be_depends_on_the_model(shapes: tuple[Any, ...], expected: int) -> None:
    assert json_bytes(card_of(*shapes)) == expected


@pytest.mark.parametrize("size", [100_000, MAX_JSON_BYTES // 2 - 1000])
def test_other_threads_run_while_numbers_are_parsed(size: int) -> None:
    """The parser's C code lets nobody else run; numbers are made by functions of Python."""
    text = b"[" + b"1," * size + b"1.5]"
    calls = 0

    def count(frame: Any, event: str, _: object) -> None:
        nonlocal calls
        calls += event == "call" and frame.f_code.co_name in ("_whole", "_real")

    sys.setprofile(count)
    try:
        parse_json(text)
    finally:
        sys.setprofile(None)
    assert calls == size + 1


def test_what_a_body_inflates_to_counts_in_the_quota(models: served.Models) -> None:
    limited, token = tenant("limited", quotas=Quotas(bytes_per_s=200_000))
    gate = Gate(policy(limited))
    entry = gate.admit(head(token, WIDE), None, 0.0)
    assert isinstance(entry, Pass)
    x = np.random.default_rng(0).integers(0, 10, 400_000)
    body = gzip.compress(numbers(1, [len(x)]).replace(b"[1]", json.dumps(x.tolist()).encode()))
    answer = served.client(models, None).post(
        WIDE,
        data=body,
        headers={"Content-Encoding": "gzip"},
        environ_overrides={ADMISSION: entry.admission},
    )
    assert answer.status_code == 400, "too much JSON in the answer"
    entry.charge(1000, 0.0)
    entry.release()
    refused = gate.admit(head(token, WIDE), None, 1.0)
    assert not isinstance(refused, Pass)
    assert refused.status == 429
    assert (refused.retry_after_s or 0) >= 2, "five times what it may have in a second"


def test_what_a_refused_bomb_inflates_to_counts_as_well(models: served.Models) -> None:
    limited, token = tenant("limited", quotas=Quotas(bytes_per_s=10_000))
    gate = Gate(policy(limited))
    entry = gate.admit(head(token, FIXED), None, 0.0)
    assert isinstance(entry, Pass)
    answer = served.client(models, None).post(
        FIXED,
        data=gzip.compress(numbers(MANY, [1, 32, 32])),
        headers={"Content-Encoding": "gzip"},
        environ_overrides={ADMISSION: entry.admission},
    )
    assert answer.status_code == 413
    entry.charge(0, 0.0)
    assert not isinstance(gate.admit(head(token, FIXED), None, 5.0), Pass)


# --- JSON that goes out ---------------------------------------------------------------------------


def raw(count: int, outputs: list[dict[str, Any]] | None = None, **more: Any) -> dict[str, Any]:
    tensor: dict[str, Any] = {"name": "x", "datatype": "FP32", "shape": [count]}
    tensor |= {"parameters": {"binary_data_size": 4 * count}}
    asked = {"inputs": [tensor], **more} | ({} if outputs is None else {"outputs": outputs})
    text = json.dumps(asked).encode()
    return {"data": text + bytes(4 * count), "headers": {HEADER: str(len(text))}}


BINARY = {"binary_data_output": True}


def test_more_json_than_is_written_is_refused_before_the_model_runs(
    client: FlaskClient, models: served.Models
) -> None:
    for request in (raw(MAX_JSON_ELEMENTS + 1), raw(4 << 20), raw(4 << 20, [{"name": "y"}])):
        answer = client.post(WIDE, **request)
        assert answer.status_code == 400
        assert "binary_data_output" in answer.get_json()["error"]
    assert models.calls == []
    assert client.post(WIDE, **raw(MAX_JSON_ELEMENTS)).status_code == 200
    assert client.post(WIDE, **raw(4 << 20, parameters=BINARY)).status_code == 200
    classes = [{"name": "y", "parameters": {"classification": 3}}]
    assert client.post(WIDE, **raw(1 << 20, classes)).status_code == 200


def test_and_after_it_where_shapes_do_not_tell(client: FlaskClient) -> None:
    path = "/v2/models/unknown/infer"
    answer = client.post(path, **raw(MAX_JSON_ELEMENTS + 1))
    assert answer.status_code == 400
    assert "binary_data" in answer.get_json()["error"]
    assert client.post(path, **raw(MAX_JSON_ELEMENTS)).status_code == 200


@pytest.mark.parametrize("binary", [False, True])
def test_nor_are_more_strings_made_of_classes(client: FlaskClient, binary: bool) -> None:
    parameters = {"classification": MAX_JSON_ELEMENTS + 1, "binary_data": binary}
    wanted = [{"name": "y", "parameters": parameters}]
    assert client.post(WIDE, **raw(1 << 20, wanted)).status_code == 400


def test_texts_of_a_model_are_bounded_by_their_length() -> None:
    def long(_: Mapping[str, Array]) -> dict[str, Array]:
        return {"y": np.array(["x" * (MAX_JSON_BYTES + 1)], object)}

    model = served.Model("texts", 1, card("string", "n"), long)
    client = served.client(served.models(texts=model))
    tensor = {"name": "x", "shape": [1], "datatype": "BYTES", "data": ["a"]}
    assert client.post(TEXTS, json={"inputs": [tensor]}).status_code == 400
    asked = {"inputs": [tensor], "parameters": BINARY}
    assert client.post(TEXTS, json=asked).status_code == 200


def test_json_is_written_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    largest = 0
    dumps = json.dumps

    def counted(items: Any, **options: Any) -> str:
        nonlocal largest
        largest = max(largest, len(items))
        return dumps(items, **options)

    monkeypatch.setattr("app.server.oip.numbers.json.dumps", counted)
    text = writing.json_text("y", np.arange(MAX_JSON_ELEMENTS, dtype=np.float32))
    assert json.loads(b"[" + text + b"]") == list(range(MAX_JSON_ELEMENTS))
    assert 0 < largest <= 4096


# --- pictures -------------------------------------------------------------------------------------


def jpeg(width: int, height: int, mode: str = "L", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.new(mode, (width, height), 128).save(file, "JPEG", quality=50, **options)
    return file.getvalue()


def more_scans(raw: bytes, count: int) -> bytes:
    """Appends the last scan so many times: 30 bytes each."""
    scan = raw[raw.rindex(b"\xff\xda") : -2]
    return raw[:-2] + scan * count + raw[-2:]


def chunk(kind: bytes, content: bytes = b"") -> bytes:
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def png(*chunks: bytes, after: bytes = b"") -> bytes:
    raw = picture()
    return raw[:33] + b"".join(chunks) + raw[33:-12] + after + raw[-12:]


def segment(code: int, content: bytes = b"") -> bytes:
    return bytes((0xFF, code)) + struct.pack(">H", len(content) + 2) + content


def in_jpeg(*segments: bytes) -> bytes:
    raw = picture("JPEG")
    return raw[:2] + b"".join(segments) + raw[2:]


@pytest.fixture
def undecoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(*_: object, **__: object) -> None:
        raise AssertionError("given to the decoder")

    monkeypatch.setattr("app.pictures.Image.open", decode)


@pytest.mark.usefixtures("undecoded")
@pytest.mark.parametrize(
    "raw",
    [
        more_scans(jpeg(4000, 4000, progressive=True), 240),
        more_scans(jpeg(4000, 4000, progressive=True), 8),
        more_scans(jpeg(2000, 2000, progressive=True), 30),
        more_scans(jpeg(8, 8, progressive=True), 30),
        more_scans(jpeg(16, 16, progressive=True), 1_000_000),
        more_scans(jpeg(4000, 4000, "RGB", progressive=True), 3),
        jpeg(4001, 4000),
        png(chunk(b"tEXt") * 100_000),
        png(chunk(b"prVt") * 20_000),
        png(after=chunk(b"IDAT") * 20_000),
        in_jpeg(segment(0xE1) * 20_000),
        in_jpeg(segment(0xDB) * 20_000),
        in_jpeg(segment(0xC4) * 20_000),
        in_jpeg(segment(0xFE) * 100_000),
    ],
)
def test_pictures_that_would_take_long_are_not_decoded(raw: bytes) -> None:
    with pytest.raises(PayloadTooLargeError):
        picture_tensor(raw, HOW)
    answer = served.client(served.models()).post(SHADES, data=raw, content_type="image/jpeg")
    assert answer.status_code == 413


@pytest.mark.usefixtures("undecoded")
@pytest.mark.parametrize(
    "raw",
    [
        picture("JPEG").replace(b"\xff\xc0", b"\xff\xc9"),  # arithmetic codes
        picture("JPEG").replace(b"\xff\xc0", b"\xff\xca"),
        picture("JPEG").replace(b"\xff\xc0", b"\xff\xc3"),  # lossless
        picture("JPEG").replace(b"\xff\xc0", b"\xff\xc5"),  # hierarchical
        in_jpeg(segment(0xCC, b"\0\0")),
        in_jpeg(segment(0xDC, b"\xff\xff")),  # the height comes later
        in_jpeg(b"\xff\xe1\0\0"),
        in_jpeg(b"\xff\xe1\xff\xff"),
        in_jpeg(picture("JPEG")[158:180]),
        picture("JPEG")[:-2],
        picture("JPEG")[:2],
        b"\xff\xd8" + b"\xff" * 3_000_000,
        b"\xff\xd8" + b"\xff\x00" * 3_000_000,
        png(picture()[8:33]),  # a second size
        png(chunk(b"IHDR", struct.pack(">IIBBBBB", 9000, 9000, 8, 0, 0, 0, 0))),
        picture()[:8] + chunk(b"tEXt") + picture()[8:],
        picture()[:-1],
        picture("GIF"),
        b"RIFF\0\0\0\0WEBP",
        b"II*\0",
    ],
)
def test_kinds_of_pictures_that_are_not_decoded(raw: bytes) -> None:
    with pytest.raises(UnsupportedMediaError):
        picture_tensor(raw, HOW)


BOMB = zlib.compress(bytes(32 << 20))


@pytest.mark.parametrize(
    "raw",
    [
        png(chunk(b"zTXt", b"a\0\0" + BOMB)),
        png(chunk(b"iTXt", b"a\0\1\0\0\0" + BOMB)),
        png(chunk(b"iCCP", b"a\0\0" + BOMB)),
        png(chunk(b"eXIf", b"II*\0\x08\0\0\0\xff\xff" + bytes(60_000))),
        png(chunk(b"acTL", struct.pack(">II", 1 << 30, 0))),
        png(after=chunk(b"fdAT", bytes(100_000))),
        in_jpeg(segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + bytes(60_000))),
        in_jpeg(segment(0xE2, b"MPF\0II*\0\x08\0\0\0" + bytes(60_000))),
        in_jpeg(*[segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(60_000))] * 200),
        in_jpeg(segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + b"<a>" * 20_000)),
        picture("JPEG") + picture("JPEG") * 10,
    ],
)
def test_the_decoder_sees_nothing_but_the_picture(
    raw: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Text, EXIF, profiles, previews and animations are formats of their own."""
    expected = picture_tensor(picture("JPEG" if raw[:1] == b"\xff" else "PNG"), HOW)
    seen: list[bytes] = []
    decode = Image.open

    def watched(file: io.BytesIO, **options: Any) -> Image.Image:
        seen.append(file.getvalue())
        return decode(file, **options)

    monkeypatch.setattr("app.pictures.Image.open", watched)
    np.testing.assert_array_equal(picture_tensor(raw, HOW), expected)
    assert len(seen[0]) < 1000
    assert not any(
        word in seen[0]
        for word in (b"TXt", b"iCCP", b"eXIf", b"acTL", b"fdAT", b"Exif", b"ICC", b"MPF")
    )


@pytest.mark.parametrize(
    "raw",
    [
        jpeg(4000, 4000),
        jpeg(4000, 4000, progressive=True),
        jpeg(4000, 3900, "RGB", progressive=True),
        jpeg(100, 80, "CMYK", progressive=True),
        jpeg(300, 300, "RGB", restart_marker_blocks=1),
        in_jpeg(segment(0xE1, b"Exif\0\0" + picture("JPEG")), b"\xff"),
    ],
)
def test_what_cameras_and_editors_write_is_decoded(raw: bytes) -> None:
    assert picture_tensor(raw, HOW).shape == (1, 1, 2, 2)


def test_bounds_of_scans_are_those_of_large_ordinary_pictures() -> None:
    assert MAX_SCANS * MAX_PICTURE_PIXELS >= MAX_SCANNED_PIXELS >= 10 * MAX_PICTURE_PIXELS


def test_a_picture_that_nobody_waits_for_is_given_up(models: served.Models) -> None:
    looks = 0

    def gone() -> bool:
        nonlocal looks
        looks += 1
        return looks > 3

    answer = served.client(models).post(
        SHADES,
        data=jpeg(1000, 1000),
        content_type="image/jpeg",
        environ_overrides={CLIENT_GONE: gone},
    )
    assert answer.status_code == 503
    assert models.calls == []


def test_decoding_ends_when_it_is_told_to() -> None:
    calls = 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls > 20:
            raise CancelledError(0)

    noise = np.random.default_rng(0).integers(0, 255, (1500, 1500, 4), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG", compress_level=0)
    with pytest.raises(CancelledError):
        open_picture(file.getvalue(), HOW).tensor(check)
    assert calls == 21


def test_small_pictures_go_beside_a_large_one() -> None:
    """Attack: one tenant's largest pictures fill the room; another's small ones need none."""
    large = open_picture(jpeg(4000, 4000, progressive=True), HOW)
    small = open_picture(picture(), HOW)
    assert small.decoding_bytes < 4096
    assert large.decoding_bytes > 100 * MAX_PICTURE_PIXELS // 16


def test_ordinary_requests_are_served_after_all_of_this(client: FlaskClient) -> None:
    assert client.post(SUMS, json=INFER).status_code == 200
