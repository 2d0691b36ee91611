from __future__ import annotations

from tests import served
from tests.unit.app.server.routes.requests import INFER, SUMS


def test_statistics_count_what_was_done() -> None:
    client = served.client(served.models())
    assert client.post(SUMS, json=INFER).status_code == 200
    everything = client.get("/v2/models/stats").get_json()["model_stats"]
    assert [(each["name"], each["inference_count"]) for each in everything] == [
        ("sums", 1),
        ("shades", 0),
    ]
    for path in ("/v2/models/sums/stats", "/v2/models/sums/versions/1/stats"):
        assert client.get(path).get_json()["model_stats"] == everything[:1]
    assert client.get("/v2/models/sums/versions/2/stats").status_code == 404


def test_phases_of_a_request_are_counted() -> None:
    client = served.client(served.models())
    client.post(SUMS, json=INFER)
    client.post(SUMS, data=b"{")
    (found,) = client.get("/v2/models/sums/stats").get_json()["model_stats"]
    counts = {phase: span["count"] for phase, span in found["inference_stats"].items()}
    assert (counts["compute_input"], counts["compute_output"], counts["success"]) == (1, 1, 1)


def test_model_that_is_not_ready() -> None:
    models = served.models()
    models.served["sums"].is_available = False
    client = served.client(models)
    answer = client.get("/v2/models/sums/ready")
    assert answer.status_code == 503
    assert "isn't ready" in answer.get_json()["error"]
    assert client.get("/v2/models/sums").get_json()["versions"] == []
