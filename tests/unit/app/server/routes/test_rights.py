"""Every route and the right that it needs; a route that is missing here fails the last test."""

from __future__ import annotations

import pytest

from app.access.admission import OPEN_TENANT, Admission
from tests import served
from tests.unit.app.server.routes.requests import INFER

ROUTES = [
    ("GET", "/v2", "metadata"),
    ("GET", "/v2/models", "metadata"),
    ("GET", "/v2/models/sums", "metadata"),
    ("GET", "/v2/models/sums/versions/1", "metadata"),
    ("GET", "/v2/models/sums/ready", "metadata"),
    ("GET", "/v2/models/sums/versions/1/ready", "metadata"),
    ("GET", "/v2/models/sums/config", "metadata"),
    ("GET", "/v2/models/sums/versions/1/config", "metadata"),
    ("GET", "/metrics", "metrics"),
    ("GET", "/metrics", "metrics"),
    ("GET", "/v2/models/stats", "metrics"),
    ("GET", "/v2/models/sums/stats", "metrics"),
    ("GET", "/v2/models/sums/versions/1/stats", "metrics"),
    ("POST", "/v2/models/sums/infer", "infer"),
    ("POST", "/v2/models/sums/versions/1/infer", "infer"),
    ("POST", "/v1/models/sums/classify", "infer"),
    ("POST", "/v2/repository/index", "metadata"),
    ("POST", "/v2/repository/models/sums/load", "manage"),
    ("POST", "/v2/repository/models/sums/unload", "manage"),
]
PAGE = ["/", "/page/style.css", "/page/script.js", "/page/icon.svg"]


@pytest.mark.parametrize(("method", "path", "right"), ROUTES)
def test_route_needs_its_right(method: str, path: str, right: str) -> None:
    models = served.models()
    nobody = served.client(models, None).open(path, method=method)
    assert (nobody.status_code, nobody.headers["WWW-Authenticate"]) == (401, "Bearer")
    others = served.admitted(rights=served.ALL_RIGHTS - {right})
    lacking = served.client(models, others).open(path, method=method)
    assert lacking.status_code == 403
    assert repr(right) in lacking.get_json()["error"]
    assert (models.calls, models.changes) == ([], [])
    having = served.admitted(rights=frozenset({right}))
    answer = served.client(models, having).open(path, method=method)
    assert answer.status_code not in (401, 403, 404)


def test_under_open_access_credentials_are_not_blamed() -> None:
    everybody = Admission(OPEN_TENANT.name, OPEN_TENANT.models, OPEN_TENANT.rights)
    models = served.models()
    answer = served.client(models, everybody).post("/v2/repository/models/sums/unload")
    assert answer.status_code == 403
    assert answer.get_json()["error"].startswith("open access doesn't have the right 'manage'")
    assert models.changes == []


@pytest.mark.parametrize(
    ("method", "path", "right"), [each for each in ROUTES if "sums" in each[1]]
)
def test_model_of_another_tenant_is_not_there(method: str, path: str, right: str) -> None:
    """The answer is that to a model that nobody has."""
    models = served.models()
    client = served.client(models, served.admitted(models=frozenset({"shades"})))
    hidden = client.open(path, method=method, json=INFER if method == "POST" else None)
    unknown = client.open(path.replace("sums", "none"), method=method)
    assert hidden.status_code == unknown.status_code == 404
    assert hidden.get_json()["error"] == unknown.get_json()["error"].replace("none", "sums")
    assert (models.calls, models.changes) == ([], []), right


@pytest.mark.parametrize("path", PAGE)
def test_the_page_is_open(path: str) -> None:
    assert served.client(served.models(), None).get(path).status_code == 200


def test_every_route_is_tried_here() -> None:
    """Except those that are refused to everybody."""
    rules = {
        rule.rule
        for rule in served.application(served.models()).url_map.iter_rules()
        if not rule.endpoint.startswith("refused-")
    }
    tried = [path for _, path, _ in ROUTES] + PAGE
    for path in tried:
        pattern = path.replace("sums", "<name>").replace("versions/1", "versions/<version>")
        rules.discard(pattern)
    assert rules == set()
