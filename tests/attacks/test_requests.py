"""Hostile requests: refused with a status and a reason, no model is run, the next one is served."""

from __future__ import annotations

import gzip
import io
import json
import tracemalloc
import zlib
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient

from app.limits import MAX_BODY_BYTES, MAX_JSON_BYTES, MIB
from tests import served
from tests.unit.app.server.oip.bodies import binary
from tests.unit.app.server.routes.requests import INFER, SHADES, SUMS, picture
from tests.unit.app.test_pictures import bomb
from tools.bench.hostile import inflating

HEADER = "Inference-Header-Content-Length"
SHADES_INFER = "/v2/models/shades/infer"
POST = ("POST", SUMS)


@pytest.fixture
def models() -> served.Models:
    return served.models()


@pytest.fixture
def client(models: served.Models) -> FlaskClient:
    return served.client(models)


def right(**change: Any) -> bytes:
    return json.dumps({**INFER, **change}).encode()


def form(count: int, field: str = "image") -> dict[str, Any]:
    names = [field] if count == 1 else [f"{field}{number}" for number in range(count)]
    return {"data": {name: (io.BytesIO(picture()), "a.png") for name in names}}


def tensors(x: bytes = bytes(16), *, header: object = None, **change: Any) -> dict[str, Any]:
    """A request with binary data whose header may say something else."""
    raw, head = binary(x, **change)
    return {"data": raw, "headers": {HEADER: str(head if header is None else header)}}


def packed(raw: bytes, encoding: str = "gzip", **headers: str) -> dict[str, Any]:
    return {"data": raw, "headers": {"Content-Encoding": encoding, **headers}}


SHAPE = {"shape": [1 << 39, 1 << 39]}

HOSTILE: list[tuple[tuple[str, str], dict[str, Any], int, str]] = [
    (("POST", SUMS), {"data": b"{"}, 400, "not JSON"),
    (("POST", SUMS), {"data": b""}, 400, "not JSON"),
    (("POST", SUMS), {"data": b"\xff\xfe"}, 400, "not UTF-8"),
    (("POST", SUMS), {"data": b"[" * 60_000}, 400, "nested too deeply"),
    (("POST", SUMS), {"data": b'{"a":' * 60_000}, 400, "nested too deeply"),
    (POST, {"data": b"[" * MIB}, 413, "more than 65536 arrays and objects"),
    (POST, {"data": b'{"a":' * 100_000}, 413, "more than 65536 arrays and objects"),
    (POST, {"data": b"{}," * 100_000}, 413, "more than 65536 arrays and objects"),
    (("POST", SUMS), {"data": b"1" * MIB}, 400, "too many digits"),
    (("POST", SUMS), {"data": right()[:-1] + b',"id":"b"}'}, 400, "given twice"),
    (("POST", SUMS), {"data": right(id="x" * 300)}, 400, "at most 256"),
    (("POST", SUMS), {"data": right(inputs=[])}, 400, "missing"),
    (("POST", SUMS), {"data": right().replace(b"[1, 2, 3, 4]", b"[1, 2, 3, NaN]")}, 400, "NaN"),
    (("POST", SUMS), {"data": right().replace(b"[1, 2, 3, 4]", b"[1, 2, 3, true]")}, 400, "truth"),
    (
        ("POST", SUMS),
        {"data": right().replace(b"[1, 4]", b"[1099511627775, 99999999]")},
        413,
        "most",
    ),
    (
        ("POST", SUMS),
        {"data": b" " * (MAX_JSON_BYTES + 1)},
        413,
        "for this model at most 4194304",
    ),
    (POST, {"data": right(id="x" * MIB)}, 400, "at most 256"),
    (POST, {"data": b'{"inputs":' + b"[" * 60_000}, 400, "nested too deeply"),
    (POST, {"data": right().replace(b"[1, 2, 3, 4]", b"[1, 2, 3, -Infinity]")}, 400, "Infinity"),
    (POST, {"data": right().replace(b"[1, 2, 3, 4]", b"[1, 2, 3, 1e400]")}, 400, "beyond float32"),
    (POST, packed(right()), 400, "isn't gzip"),
    (POST, packed(right(), "br"), 415, "expected gzip, deflate or identity"),
    (POST, packed(gzip.compress(right()), "gzip, gzip"), 415, "expected gzip"),
    (POST, packed(gzip.compress(right())[:-9]), 400, "cut off"),
    (POST, packed(gzip.compress(right()) + b"{}"), 400, "follow"),
    (POST, packed(gzip.compress(gzip.compress(right()))), 400, "not UTF-8"),
    (POST, packed(inflating(64 * MIB)), 413, "inflates to more than"),
    (POST, packed(inflating(64 * MIB, "deflate"), "deflate"), 413, "inflates to more than"),
    (POST, packed(inflating(64 * MIB), **{HEADER: "9"}), 413, "inflates to more than"),
    (POST, packed(zlib.compress(b"[" * 60_000), "deflate"), 400, "nested too deeply"),
    (POST, packed(zlib.compress(b"[" * MIB), "deflate"), 413, "inflates to more than 65536 bytes"),
    (POST, packed(gzip.compress(right()), **{HEADER: "9999"}), 400, "expected 0 to 165"),
    (POST, {"data": right(), "headers": {HEADER: "9"}}, 400, "not JSON"),
    (POST, tensors(header="-1"), 400, "expected 0 to"),
    (POST, tensors(header="1e3"), 400, "expected 0 to"),
    (POST, tensors(header="9" * 4000), 400, "expected 0 to"),
    (POST, tensors(header=1 << 64), 400, "expected 0 to"),
    (POST, tensors(header="0"), 400, "one input"),
    (POST, tensors(header="1"), 400, "not JSON"),
    (POST, tensors(bytes(15)), 400, "expected 16 bytes"),
    (POST, tensors(bytes(17)), 400, "expected 16 bytes"),
    (POST, tensors(size=1 << 62), 400, "binary_data_size: expected 0 to 16"),
    (POST, tensors(size=-16), 400, "binary_data_size: expected 0 to 16"),
    (POST, tensors(size=0), 400, "expected 16 bytes"),
    (POST, tensors(change=SHAPE), 413, "elements, at most"),
    (POST, tensors(id="x" * MIB), 400, "at most 256"),
    (("POST", SHADES_INFER), {"data": bytes(15), "headers": {HEADER: "0"}}, 400, "expected 16"),
    (("POST", "/v2/systemsharedmemory/region/a/register"), {}, 501, "host could read"),
    (("POST", "/v2/models/none/infer"), {"data": right()}, 404, "no model 'none'"),
    (("POST", "/v2/models/..%2Fsums/infer"), {"data": right()}, 404, ""),
    (("POST", "/v2/models/sums/versions/9/infer"), {"data": right()}, 404, "no version '9'"),
    (("POST", "/v2/nothing"), {}, 404, ""),
    (("GET", SUMS), {}, 405, "take this method"),
    (("DELETE", "/v2/models/sums"), {}, 405, "take this method"),
    (("GET", SHADES), {}, 405, "take this method"),
    (("POST", SHADES), {"data": b"", "content_type": "image/png"}, 415, "PNG or JPEG"),
    (("POST", SHADES), {"data": bomb(50_000, 50_000), "content_type": "image/png"}, 413, "pixels"),
    (("POST", SHADES), {"data": bomb(5_000, 5_000), "content_type": "image/png"}, 413, "pixels"),
    (("POST", SHADES), {"data": picture()[:50], "content_type": "image/png"}, 415, "broken"),
    (("POST", SHADES), {"data": picture("GIF"), "content_type": "image/png"}, 415, "PNG or JPEG"),
    (
        ("POST", SHADES),
        {"data": picture(), "content_type": "text/plain"},
        415,
        "expected image/png",
    ),
    (("POST", SHADES), {"data": picture()}, 415, "got ''"),
    (("POST", SHADES), form(1, "file"), 400, "no file in a field 'image'"),
    (("POST", SHADES), form(20), 413, ""),
    (
        ("POST", SHADES),
        {"data": b"--x", "content_type": "multipart/form-data"},
        400,
        "no file in a field 'image'",
    ),
    (("POST", "/v1/models/sums/classify"), {"data": picture()}, 400, "takes tensors, not pictures"),
]


@pytest.mark.parametrize(("route", "request_", "status", "said"), HOSTILE)
def test_hostile_request(  # noqa: PLR0917 - two fixtures and a table of four columns
    client: FlaskClient,
    models: served.Models,
    route: tuple[str, str],
    request_: dict[str, Any],
    status: int,
    said: str,
) -> None:
    method, path = route
    answer = client.open(path, method=method, **request_)
    assert answer.status_code == status, answer.get_data()
    assert answer.get_json().keys() == {"error"}
    assert said in answer.get_json()["error"]
    assert len(answer.get_data()) < 1000
    assert models.calls == [], "no model was run"
    assert client.post(SUMS, json=INFER).status_code == 200


@pytest.mark.parametrize("path", [SUMS, SHADES, "/v2/repository/models/sums/load"])
@pytest.mark.parametrize("declared", [MAX_BODY_BYTES + 1, 1 << 30, 1 << 62])
@pytest.mark.parametrize("headers", [{}, {HEADER: "0"}, {"Content-Encoding": "gzip"}])
def test_declared_size_is_refused_before_the_body_is_read(
    client: FlaskClient,
    models: served.Models,
    path: str,
    declared: int,
    headers: dict[str, str],
) -> None:
    class Unread(io.RawIOBase):
        def readinto(self, buffer: object) -> int:
            raise AssertionError("the body was read")

        def readable(self) -> bool:
            return True

    environment = {"wsgi.input": Unread(), "CONTENT_LENGTH": str(declared)}
    answer = client.post(
        path, content_type="image/png", environ_overrides=environment, headers=headers
    )
    assert answer.status_code == (415 if path == SHADES and "Content-Encoding" in headers else 413)
    assert answer.get_json().keys() == {"error"}
    assert models.calls == []


@pytest.mark.parametrize(
    ("path", "request_"),
    [
        (SUMS, {"data": right().replace(b"[1, 4]", b"[8388608, 4]")}),
        (SUMS, {"data": b"[" * MIB}),
        (SUMS, packed(inflating(64 * MIB))),
        (SUMS, packed(inflating(64 * MIB, "deflate"), "deflate")),
        (SUMS, tensors(change={"shape": [1 << 20, 4]})),
        (SHADES, {"data": bomb(50_000, 50_000)}),
        (SHADES, {"data": bomb(4_001, 4_000)}),
    ],
)
def test_memory_follows_what_came_not_what_was_declared(
    client: FlaskClient, path: str, request_: dict[str, Any]
) -> None:
    client.post(SUMS, json=INFER)
    tracemalloc.start()
    try:
        client.post(path, content_type="image/png", **request_)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 3 * MAX_JSON_BYTES


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, -0.0, 1e-45])
def test_every_float_goes_through_as_bits(
    client: FlaskClient, models: served.Models, number: float
) -> None:
    """Numbers that JSON lacks are numbers; the answer to them is one too."""
    x = np.full(4, number, "<f4")
    asked = tensors(x.tobytes(), parameters={"binary_data_output": True})
    answer = client.post(SUMS, **asked)
    assert answer.status_code == 200
    (call,) = models.calls
    assert call.inputs["x"].tobytes() == x.tobytes()
    found = np.frombuffer(answer.data[int(answer.headers[HEADER]) :], "<f4")
    np.testing.assert_array_equal(found, x + np.float32(2))
    as_json = client.post(SUMS, **tensors(x.tobytes())).get_json()["outputs"][0]["data"]
    assert all(item is None or np.isfinite(item) for item in as_json)


def test_upload_is_kept_in_memory(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """A temporary file would be written through to the host."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a file was made")

    monkeypatch.setattr("werkzeug.formparser.SpooledTemporaryFile", refuse)
    head = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
    body = head + picture() + bytes(2 * MIB) + b"\r\n--x--\r\n"
    answer = client.post(SHADES, data=body, content_type="multipart/form-data; boundary=x")
    assert answer.status_code == 200
