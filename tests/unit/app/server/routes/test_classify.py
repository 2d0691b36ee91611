from __future__ import annotations

import io

import numpy as np
import pytest
from flask.testing import FlaskClient

from app.limits import MAX_TOP_K
from app.server.routes.classify import best_labels
from tests import fakes, served
from tests.unit.app.server.routes.requests import SHADES, picture


@pytest.fixture
def client() -> FlaskClient:
    return served.client(served.models())


@pytest.mark.parametrize("content_type", ["image/png", "application/octet-stream"])
def test_a_raw_body(client: FlaskClient, content_type: str) -> None:
    answer = client.post(SHADES, data=picture(), content_type=content_type).get_json()
    assert answer["model"] == {"id": "shades", "version": 1, "bundle_id": "ab" * 32}
    assert [each["label"] for each in answer["labels"]] == ["light", "dark"]
    assert answer["labels"][0]["probability"] == pytest.approx(np.e / (1 + np.e), abs=1e-5)
    assert answer["runtime"] == "process"
    assert answer["memory"] == {"budget_bytes": 1000, "peak_bytes": 900}
    [partition] = answer["timing"]["partitions"]
    assert partition == {
        "index": 0,
        "load_ms": 0,
        "wait_ms": 0,
        "run_ms": 1,
        "weights_bytes": 7,
    }


def test_a_form(client: FlaskClient) -> None:
    form = {"image": (io.BytesIO(picture("JPEG", 0)), "a.jpg")}
    answer = client.post(f"{SHADES}?top_k=1", data=form).get_json()
    assert [each["label"] for each in answer["labels"]] == ["dark"]


@pytest.mark.parametrize("top_k", ["0", "-1", "x", "", "1.5", str(MAX_TOP_K + 1), "9" * 9000])
def test_top_k_out_of_bounds(client: FlaskClient, top_k: str) -> None:
    answer = client.post(f"{SHADES}?top_k={top_k}", data=picture())
    assert answer.status_code == 400
    assert "top_k: expected 1 to 100" in answer.get_json()["error"]


def test_compressed_picture(client: FlaskClient) -> None:
    headers = {"Content-Encoding": "gzip"}
    answer = client.post(SHADES, data=picture(), content_type="image/png", headers=headers)
    assert answer.status_code == 415


def test_labels_beyond_the_list_are_numbers() -> None:
    scores = {"scores": np.array([[0.1, 0.2, 0.7]], np.float32)}
    best = best_labels(fakes.PICTURE_CARD, scores, 3)
    assert [each["label"] for each in best] == ["2", "light", "dark"]
    assert sum(each["probability"] for each in best) == pytest.approx(1, abs=1e-5)


def test_large_logits_do_not_overflow() -> None:
    best = best_labels(fakes.PICTURE_CARD, {"scores": np.array([[1e4, -1e4]], np.float32)}, 2)
    assert [each["probability"] for each in best] == [1.0, 0.0]
