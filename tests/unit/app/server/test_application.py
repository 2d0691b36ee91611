"""The routes, with models that compute in memory."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from PIL import Image

from app.errors import (
    AuthenticationError,
    BundleIntegrityError,
    BusyError,
    KeyUnavailableError,
)
from app.limits import MAX_TOP_K
from app.runtime import Runtime
from app.server.application import best_labels, create_application
from app.serving import Catalogue
from app.tensors import Array
from tests import fakes

INFER = {
    "id": "a",
    "inputs": [
        {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]},
        {"name": "count", "datatype": "INT64", "shape": [1], "data": [10]},
    ],
}


@pytest.fixture
def client() -> FlaskClient:
    catalogue, _ = fakes.catalogue()
    return create_application(catalogue, Runtime.PROCESS).test_client()


def picture(kind: str = "PNG", shade: int = 255) -> bytes:
    file = io.BytesIO()
    Image.new("L", (8, 8), shade).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v2", {"name": "cloister", "extensions": []}),
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"ready": True}),
        ("/v2/models/sums", {"name": "sums", "versions": ["1"]}),
        ("/v2/models/sums/versions/1", {"name": "sums"}),
        ("/v2/models/sums/ready", {"name": "sums", "ready": True}),
        ("/v2/models/sums/versions/1/ready", {"ready": True}),
    ],
)
def test_routes_that_tell(client: FlaskClient, path: str, expected: dict[str, Any]) -> None:
    answer = client.get(path)
    assert answer.status_code == 200
    assert answer.mimetype == "application/json"
    assert expected.items() <= answer.get_json().items()
    assert client.head(path).status_code == 200


@pytest.mark.parametrize("path", ["/v2/models/sums/infer", "/v2/models/sums/versions/1/infer"])
def test_infer(client: FlaskClient, path: str) -> None:
    answer = client.post(path, json=INFER)
    assert answer.status_code == 200
    assert answer.get_json() == {
        "model_name": "sums",
        "model_version": "1",
        "id": "a",
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 4], "data": [11, 12, 13, 14]}],
    }


@pytest.mark.parametrize("content_type", ["image/png", "application/octet-stream"])
def test_classify_a_raw_body(client: FlaskClient, content_type: str) -> None:
    answer = client.post(
        "/v1/models/shades/classify", data=picture(), content_type=content_type
    ).get_json()
    assert answer["model"] == {"id": "shades", "version": 1}
    assert [each["label"] for each in answer["labels"]] == ["light", "dark"]
    assert answer["labels"][0]["probability"] == pytest.approx(np.e / (1 + np.e), abs=1e-5)
    assert answer["runtime"] == "process"
    [partition] = answer["timing"]["partitions"]
    assert partition["index"] == 0
    assert partition["weights_bytes"] == len(b"weights")


def test_classify_a_form(client: FlaskClient) -> None:
    form = {"image": (io.BytesIO(picture("JPEG", 0)), "a.jpg")}
    answer = client.post("/v1/models/shades/classify?top_k=1", data=form).get_json()
    assert [each["label"] for each in answer["labels"]] == ["dark"]


@pytest.mark.parametrize("top_k", ["0", "-1", "x", "", "1.5", str(MAX_TOP_K + 1), "9" * 9000])
def test_top_k_out_of_bounds(client: FlaskClient, top_k: str) -> None:
    answer = client.post(f"/v1/models/shades/classify?top_k={top_k}", data=picture())
    assert answer.status_code == 400
    assert "top_k: expected 1 to 100" in answer.get_json()["error"]


def serving(
    compute: Callable[[Mapping[str, Array]], dict[str, Array]], **options: int
) -> FlaskClient:
    model, _ = fakes.serve("sums", fakes.TENSOR_CARD, compute, **options)
    return create_application(Catalogue({"sums": model}), Runtime.PROCESS).test_client()


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (BusyError("full", 7), 503, "full"),
        (KeyUnavailableError("no key"), 503, "no key"),
        (AuthenticationError("who?"), 401, "who?"),
        (BundleIntegrityError(), 500, "the model could not be run"),
        (ZeroDivisionError("secret weights"), 500, "the model could not be run"),
    ],
)
def test_errors_become_statuses(
    error: Exception, status: int, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(values: Mapping[str, Array]) -> dict[str, Array]:
        raise error

    with caplog.at_level(logging.ERROR):
        answer = serving(fail).post("/v2/models/sums/infer", json=INFER)
    assert answer.status_code == status
    assert answer.get_json() == {"error": said}
    assert answer.headers.get("Retry-After") == ("7" if isinstance(error, BusyError) else None)
    assert bool(caplog.records) == (status == 500), "the operator hears what the client doesn't"


def test_defect_in_the_application_itself_is_opaque(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise LookupError("a part of the request")

    monkeypatch.setattr("app.server.application.decode_request", fail)
    answer = client.post("/v2/models/sums/infer", json=INFER)
    assert (answer.status_code, answer.get_json()) == (500, {"error": "internal error"})
    assert "LookupError" in caplog.text
    assert "a part of the request" not in caplog.text


def test_request_above_the_model_budget_is_too_large() -> None:
    """The request's fault, not the server's: the batch is too large for the budget."""
    client = serving(fakes.plus_count, budget_bytes=100)
    batch = json.loads(json.dumps(INFER))
    batch["inputs"][0] |= {"shape": [50, 4], "data": [0] * 200}
    answer = client.post("/v2/models/sums/infer", json=batch)
    assert answer.status_code == 413
    assert "memory" in answer.get_json()["error"]
    assert client.post("/v2/models/sums/infer", json=INFER).status_code == 200


def test_labels_beyond_the_list_are_numbers() -> None:
    scores = {"scores": np.array([[0.1, 0.2, 0.7]], np.float32)}
    best = best_labels(fakes.PICTURE_CARD, scores, 3)
    assert [each["label"] for each in best] == ["2", "light", "dark"]
    assert sum(each["probability"] for each in best) == pytest.approx(1, abs=1e-5)


def test_large_logits_do_not_overflow() -> None:
    best = best_labels(fakes.PICTURE_CARD, {"scores": np.array([[1e4, -1e4]], np.float32)}, 2)
    assert [each["probability"] for each in best] == [1.0, 0.0]
