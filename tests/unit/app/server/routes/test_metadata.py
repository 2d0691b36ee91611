from __future__ import annotations

from flask.testing import FlaskClient

from tests import fakes, served
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


def test_models_and_the_bundles_that_they_are_of() -> None:
    """A host that exchanges one bundle of a version for another can't do so unseen."""
    models = served.models()
    models.served["sums"].bundle_id = "01" * 32
    models.served["shades"].is_available = False
    client = served.client(models)
    assert client.get("/v2/models").get_json() == {
        "models": [
            {
                "name": "sums",
                "version": "1",
                "ready": True,
                "properties": {"bundle_id": "01" * 32},
            },
            {
                "name": "shades",
                "version": "1",
                "ready": False,
                "properties": {"bundle_id": "ab" * 32},
            },
        ]
    }
    for path in ("/v2/models/sums", "/v2/models/sums/versions/1"):
        assert client.get(path).get_json()["properties"] == {"bundle_id": "01" * 32}
    others = served.client(models, served.admitted(models=frozenset({"shades"})))
    assert [each["name"] for each in others.get("/v2/models").get_json()["models"]] == ["shades"]


def test_model_that_is_not_ready() -> None:
    models = served.models()
    models.served["sums"].is_available = False
    client = served.client(models)
    answer = client.get("/v2/models/sums/ready")
    assert answer.status_code == 503
    assert "isn't ready" in answer.get_json()["error"]
    assert client.get("/v2/models/sums").get_json()["versions"] == []


def with_stats(rights: frozenset[str] = served.ALL_RIGHTS) -> FlaskClient:
    model = served.Model("stats", 1, fakes.TENSOR_CARD, fakes.plus_count)
    return served.client(served.models(stats=model), served.admitted(rights=rights))


def test_a_model_called_stats_is_described_like_every_other() -> None:
    client = with_stats()
    assert client.get("/v2/models/stats").get_json()["name"] == "stats"
    for path in ("ready", "config", "versions/1"):
        assert client.get(f"/v2/models/stats/{path}").get_json()["name"] == "stats"
    (counters,) = client.get("/v2/models/stats/stats").get_json()["model_stats"]
    assert counters["name"] == "stats"
    assert client.post("/v2/models/stats/infer", json=INFER).status_code == 200
    assert with_stats(frozenset({"metrics"})).get("/v2/models/stats").status_code == 403


def test_who_may_not_know_that_model_gets_all_statistics() -> None:
    model = served.Model("stats", 1, fakes.TENSOR_CARD, fakes.plus_count)
    client = served.client(served.models(stats=model), served.admitted(frozenset({"sums"})))
    (counters,) = client.get("/v2/models/stats").get_json()["model_stats"]
    assert counters["name"] == "sums"
    nobody = served.client(served.models(stats=model), None)
    assert nobody.get("/v2/models/stats").status_code == 401


def test_statistics_do_not_tell_how_long_one_request_took() -> None:
    """Another tenant's request, between two looks at the counters."""
    models = served.models()
    client = served.client(models)
    for took_ns in (1, 999_999, 123_456_789):
        models.served["sums"].recorder.succeeded(took_ns, took_ns, took_ns)
        for path in ("/v2/models/stats", "/v2/models/sums/stats"):
            counters = client.get(path).get_json()["model_stats"][0]
            spans = [*counters["inference_stats"].values()]
            spans += [each["compute_infer"] for each in counters["batch_stats"]]
            assert all(span["ns"] % 1_000_000 == 0 for span in spans)
            assert counters["last_inference"] % 1000 == 0
