"""Hostile requests: refused with a status and a reason, no model is run, the next one is served."""

from __future__ import annotations

import io
import json
import tracemalloc
from typing import Any

import pytest
from flask.testing import FlaskClient

from app.limits import MAX_BODY_BYTES, MAX_JSON_BYTES, MIB
from app.runtime import Runtime
from app.server.application import create_application
from tests import fakes
from tests.unit.app.server.test_application import INFER, picture
from tests.unit.app.test_pictures import bomb

Events = dict[str, fakes.MemoryReader]
SUMS = "/v2/models/sums/infer"
SHADES = "/v1/models/shades/classify"


@pytest.fixture
def served() -> tuple[FlaskClient, Events]:
    catalogue, readers = fakes.catalogue()
    return create_application(catalogue, Runtime.PROCESS).test_client(), readers


def right(**change: Any) -> bytes:
    return json.dumps({**INFER, **change}).encode()


def form(count: int, field: str = "image") -> dict[str, Any]:
    names = [field] if count == 1 else [f"{field}{number}" for number in range(count)]
    return {"data": {name: (io.BytesIO(picture()), "a.png") for name in names}}


HOSTILE: list[tuple[tuple[str, str], dict[str, Any], int, str]] = [
    (("POST", SUMS), {"data": b"{"}, 400, "not JSON"),
    (("POST", SUMS), {"data": b""}, 400, "not JSON"),
    (("POST", SUMS), {"data": b"\xff\xfe"}, 400, "not UTF-8"),
    (("POST", SUMS), {"data": b"[" * MIB}, 400, "nested too deeply"),
    (("POST", SUMS), {"data": b'{"a":' * 100_000}, 400, "nested too deeply"),
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
    (("POST", SUMS), {"data": b" " * (MAX_JSON_BYTES + 1)}, 413, "a JSON body at most"),
    (("POST", SUMS), {"data": right(), "headers": {"Content-Encoding": "gzip"}}, 415, "compressed"),
    (
        ("POST", SUMS),
        {"data": right(), "headers": {"Inference-Header-Content-Length": "9"}},
        400,
        "binary tensors",
    ),
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
def test_hostile_request(
    served: tuple[FlaskClient, Events],
    route: tuple[str, str],
    request_: dict[str, Any],
    status: int,
    said: str,
) -> None:
    client, readers = served
    method, path = route
    answer = client.open(path, method=method, **request_)
    assert answer.status_code == status, answer.get_data()
    assert answer.get_json().keys() == {"error"}
    assert said in answer.get_json()["error"]
    assert len(answer.get_data()) < 1000
    assert all(reader.events == [] for reader in readers.values()), "no model was run"
    assert client.post(SUMS, json=INFER).status_code == 200


@pytest.mark.parametrize("path", [SUMS, SHADES])
@pytest.mark.parametrize("declared", [MAX_BODY_BYTES + 1, 1 << 30, 1 << 62])
def test_declared_size_is_refused_before_the_body_is_read(
    served: tuple[FlaskClient, Events], path: str, declared: int
) -> None:
    client, readers = served

    class Unread(io.RawIOBase):
        def readinto(self, buffer: object) -> int:
            raise AssertionError("the body was read")

        def readable(self) -> bool:
            return True

    environment = {"wsgi.input": Unread(), "CONTENT_LENGTH": str(declared)}
    answer = client.post(path, content_type="image/png", environ_overrides=environment)
    assert answer.status_code == 413
    assert answer.get_json().keys() == {"error"}
    assert all(reader.events == [] for reader in readers.values())


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (SUMS, right().replace(b"[1, 4]", b"[8388608, 4]")),
        (SUMS, b"[" * MIB),
        (SHADES, bomb(50_000, 50_000)),
        (SHADES, bomb(4_001, 4_000)),
    ],
)
def test_memory_follows_what_came_not_what_was_declared(
    served: tuple[FlaskClient, Events], path: str, body: bytes
) -> None:
    client, _ = served
    client.post(SUMS, json=INFER)
    tracemalloc.start()
    try:
        client.post(path, data=body, content_type="image/png")
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 16 * MIB


def test_upload_is_kept_in_memory(
    served: tuple[FlaskClient, Events], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A temporary file would be written through to the host."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a file was made")

    monkeypatch.setattr("werkzeug.formparser.SpooledTemporaryFile", refuse)
    client, _ = served
    head = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
    body = head + picture() + bytes(2 * MIB) + b"\r\n--x--\r\n"
    answer = client.post(SHADES, data=body, content_type="multipart/form-data; boundary=x")
    assert answer.status_code == 200
