from __future__ import annotations

import pytest
from flask.testing import FlaskClient

from tests import served

LOAD, UNLOAD = (f"/v2/repository/models/sums/{verb}" for verb in ("load", "unload"))
INDEX = "/v2/repository/index"


@pytest.fixture
def models() -> served.Models:
    found = served.models()
    found.states["shades"] = ("UNAVAILABLE", "unloaded")
    return found


@pytest.fixture
def client(models: served.Models) -> FlaskClient:
    return served.client(models)


def test_index(client: FlaskClient) -> None:
    common = {"version": "1", "parameters": {"bundle_id": "ab" * 32}}
    ready = {"name": "sums", "state": "READY", "reason": "", **common}
    other = {"name": "shades", "state": "UNAVAILABLE", "reason": "unloaded", **common}
    assert client.post(INDEX).get_json() == [ready, other]
    assert client.post(INDEX, data=b"{}").get_json() == [ready, other]
    assert client.post(INDEX, json={"ready": True}).get_json() == [ready]


def test_index_shows_a_tenant_its_models(models: served.Models) -> None:
    client = served.client(models, served.admitted(models=frozenset({"shades"})))
    assert [entry["name"] for entry in client.post(INDEX).get_json()] == ["shades"]
    statistics = client.get("/v2/models/stats").get_json()["model_stats"]
    assert [entry["name"] for entry in statistics] == ["shades"]


@pytest.mark.parametrize(
    ("path", "body", "change"),
    [
        (LOAD, b"", "load"),
        (LOAD, b"{}", "load"),
        (LOAD, b'{"parameters":{}}', "load"),
        (UNLOAD, b"", "unload"),
        (UNLOAD, b'{"parameters":{"unload_dependents":false}}', "unload"),
    ],
)
def test_change(
    client: FlaskClient, models: served.Models, path: str, body: bytes, change: str
) -> None:
    answer = client.post(path, data=body)
    assert (answer.status_code, answer.get_json()) == (200, {})
    assert models.changes == [(change, "sums")]


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        (LOAD, b'{"parameters":{"config":"{}"}}', "as its owner has signed it"),
        (LOAD, b'{"parameters":{"file:1/model.onnx":"AAAA"}}', "as its owner has signed it"),
        (LOAD, b'{"parameters":{"other":1}}', "unknown field"),
        (LOAD, b'{"parameters":[]}', "expected an object"),
        (LOAD, b'{"other":1}', "unknown field"),
        (LOAD, b"[]", "expected an object"),
        (UNLOAD, b'{"parameters":{"unload_dependents":1}}', "true or false"),
        (UNLOAD, b"{", "not JSON"),
        (INDEX, b'{"ready":1}', "true or false"),
        (INDEX, b'{"other":1}', "unknown field"),
        (INDEX, b"null", "expected an object"),
        (INDEX, b"[" * 60_000, "nested too deeply"),
    ],
)
def test_wrong_request(
    client: FlaskClient, models: served.Models, path: str, body: bytes, said: str
) -> None:
    answer = client.post(path, data=body)
    assert answer.status_code == 400
    assert said in answer.get_json()["error"]
    assert models.changes == []


def test_body_that_is_too_large(client: FlaskClient, models: served.Models) -> None:
    assert client.post(LOAD, data=bytes(1 << 17)).status_code == 413
    assert models.changes == []


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("systemsharedmemory/status", "send tensors as binary data"),
        ("systemsharedmemory/region/a/register", "send tensors as binary data"),
        ("systemsharedmemory/region/a/unregister", "send tensors as binary data"),
        ("systemsharedmemory/unregister", "send tensors as binary data"),
        ("cudasharedmemory/region/a/register", "send tensors as binary data"),
        ("cudasharedmemory/status", "send tensors as binary data"),
        ("trace/setting", "tracing"),
        ("models/sums/trace/setting", "tracing"),
        ("logging", "log settings"),
    ],
)
def test_extension_that_is_refused(client: FlaskClient, method: str, path: str, said: str) -> None:
    answer = client.open(f"/v2/{path}", method=method)
    assert answer.status_code == 501
    assert said in answer.get_json()["error"]
