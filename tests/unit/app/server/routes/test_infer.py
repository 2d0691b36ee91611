from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient

from app.server.wsgi import CLIENT_GONE, QUEUED_NS
from tests import served
from tests.unit.app.server.oip.bodies import binary
from tests.unit.app.server.routes.requests import INFER, SUMS

HEADER = "Inference-Header-Content-Length"


@pytest.fixture
def models() -> served.Models:
    return served.models()


@pytest.fixture
def client(models: served.Models) -> FlaskClient:
    return served.client(models)


@pytest.mark.parametrize("path", [SUMS, "/v2/models/sums/versions/1/infer"])
def test_json(client: FlaskClient, path: str) -> None:
    answer = client.post(path, json=INFER)
    assert answer.status_code == 200
    assert answer.mimetype == "application/json"
    assert HEADER not in answer.headers
    assert answer.get_json() == {
        "model_name": "sums",
        "model_version": "1",
        "id": "a",
        "parameters": {"bundle_id": "ab" * 32},
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 4], "data": [11, 12, 13, 14]}],
    }


def test_binary_both_ways(client: FlaskClient) -> None:
    raw, head = binary(parameters={"binary_data_output": True})
    answer = client.post(SUMS, data=raw, headers={HEADER: str(head)})
    assert answer.status_code == 200
    assert answer.mimetype == "application/octet-stream"
    size = int(answer.headers[HEADER])
    (output,) = json.loads(answer.data[:size])["outputs"]
    assert output["parameters"] == {"binary_data_size": 16}
    assert answer.content_length == size + 16
    assert np.frombuffer(answer.data[size:], "<f4").tolist() == [3, 4, 5, 6.5]


def test_body_reaches_the_model_without_a_copy(client: FlaskClient, models: served.Models) -> None:
    raw, head = binary()
    aligned, head = binary(padding=-(np.frombuffer(raw, np.uint8).ctypes.data + head) % 4)
    client.post(SUMS, data=aligned, headers={HEADER: str(head)})
    (call,) = models.calls
    assert not call.inputs["x"].flags.owndata
    assert not call.inputs["x"].flags.writeable


def test_raw_form(client: FlaskClient) -> None:
    pixels = np.ones((3, 1, 2, 2), "<f4")
    answer = client.post("/v2/models/shades/infer", data=pixels.tobytes(), headers={HEADER: "0"})
    size = int(answer.headers[HEADER])
    assert json.loads(answer.data[:size])["outputs"][0]["shape"] == [3, 2]
    assert np.frombuffer(answer.data[size:], "<f4").tolist() == [0, 1] * 3


@pytest.mark.parametrize(
    ("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)]
)
@pytest.mark.parametrize("is_binary", [False, True])
def test_compressed_request(
    client: FlaskClient, encoding: str, pack: Callable[[bytes], bytes], is_binary: bool
) -> None:
    raw, head = binary() if is_binary else (json.dumps(INFER).encode(), None)
    headers = {"Content-Encoding": encoding} | ({HEADER: str(head)} if is_binary else {})
    answer = client.post(SUMS, data=pack(raw), headers=headers)
    assert answer.status_code == 200, answer.data
    assert "Content-Encoding" not in answer.headers


@pytest.mark.parametrize("accepted", ["gzip", "deflate;q=0.5, gzip", "br", "*", "identity;q=0"])
def test_no_answer_is_compressed(client: FlaskClient, accepted: str) -> None:
    answer = client.post(SUMS, json=INFER, headers={"Accept-Encoding": accepted})
    assert "Content-Encoding" not in answer.headers
    assert answer.get_json()["id"] == "a"


def test_errors_are_never_compressed(client: FlaskClient) -> None:
    """Clients that decode inference answers themselves read errors as they come."""
    answer = client.post(SUMS, data=b"{", headers={"Accept-Encoding": "gzip"})
    assert answer.status_code == 400
    assert "not JSON" in answer.get_json()["error"]
    assert "Content-Encoding" not in answer.headers


def test_what_the_client_wants_reaches_the_model(
    client: FlaskClient, models: served.Models
) -> None:
    gone = [False]
    asked: dict[str, Any] = {**INFER, "parameters": {"priority": 3, "timeout": 2500}}
    client.post(SUMS, json=asked, environ_overrides={CLIENT_GONE: lambda: gone[0], QUEUED_NS: 5})
    (call,) = models.calls
    assert (call.tenant, call.priority, call.timeout_us) == ("tester", 3, 2500)
    assert call.queued_ns >= 5, "what it waited for a worker, and for room to be decoded"
    assert not call.gone()
    gone[0] = True
    assert call.gone()


def test_classification(client: FlaskClient) -> None:
    tensor = {"name": "image", "datatype": "FP32", "shape": [1, 1, 2, 2], "data": [1, 1, 1, 1]}
    wanted = [{"name": "scores", "parameters": {"classification": 1}}]
    answer = client.post(
        "/v2/models/shades/infer", json={"inputs": [tensor], "outputs": wanted}
    ).get_json()
    assert answer["outputs"] == [
        {"name": "scores", "datatype": "BYTES", "shape": [1, 1], "data": ["1.000000:1:light"]}
    ]
