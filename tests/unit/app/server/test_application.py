"""The routes as a whole, with models that compute in memory."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from app.errors import (
    AnsweredError,
    ApplianceError,
    AuthenticationError,
    BundleFormatError,
    BundleIntegrityError,
    BundleReadError,
    BundleRefusedError,
    BusyError,
    CancelledError,
    DeadlineError,
    ExecutionError,
    ForbiddenError,
    InputError,
    KeyUnavailableError,
    MemoryBudgetError,
    NotFoundError,
)
from app.server.oip.describe import EXTENSIONS
from app.tensors import Array
from tests import served
from tests.unit.app.server.routes.requests import INFER


@pytest.fixture
def client() -> FlaskClient:
    return served.client(served.models())


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v2", {"name": "cloister", "extensions": list(EXTENSIONS)}),
        ("/v2/models/sums", {"name": "sums", "versions": ["1"]}),
        ("/v2/models/sums/versions/1", {"name": "sums", "versions": ["1"]}),
        ("/v2/models/sums/ready", {"name": "sums", "ready": True}),
        ("/v2/models/sums/versions/1/ready", {"ready": True}),
        ("/v2/models/sums/config", {"name": "sums", "max_batch_size": 0}),
        ("/v2/models/sums/versions/1/config", {"name": "sums"}),
    ],
)
def test_routes_that_tell(client: FlaskClient, path: str, expected: dict[str, Any]) -> None:
    answer = client.get(path)
    assert answer.status_code == 200
    assert answer.mimetype == "application/json"
    assert expected.items() <= answer.get_json().items()
    assert client.head(path).status_code == 200


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (BusyError("full", 7), 503, "full"),
        (KeyUnavailableError("key file /k/a.key: No such"), 503, "the model's key can't be had"),
        (BundleReadError(Path("/b/x.enc"), OSError(5, "bad disk")), 503, "can't be read at the"),
        (BundleRefusedError("it expired"), 503, "it expired"),
        (BundleFormatError("/b/x: no card"), 500, "the model's bundle can't be used"),
        (AuthenticationError("who?"), 401, "who?"),
        (ForbiddenError("not you"), 403, "not you"),
        (DeadlineError(3), 504, "timeout passed"),
        (CancelledError(3), 503, "its client has left"),
        (MemoryBudgetError(0, "run", 7, 5), 413, "needs 7 bytes of model memory"),
        (BundleIntegrityError(), 500, "failed its integrity check"),
        (BundleFormatError("/host/a.bundle: no"), 500, "the model's bundle can't be used"),
        (ExecutionError(0, "run", "secret weights"), 500, "the model could not be run"),
    ],
)
def test_errors_become_statuses(
    error: Exception, status: int, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(values: Mapping[str, Array]) -> dict[str, Array]:
        raise error

    models = served.models()
    models.served["sums"].compute = fail
    with caplog.at_level(logging.ERROR):
        answer = served.client(models).post("/v2/models/sums/infer", json=INFER)
    assert answer.status_code == status
    assert answer.get_json().keys() == {"error"}
    assert said in answer.get_json()["error"]
    assert answer.headers.get("Retry-After") == ("7" if isinstance(error, BusyError) else None)
    assert answer.headers.get("WWW-Authenticate") == ("Bearer" if status == 401 else None)
    is_operators = status == 500 or isinstance(error, BundleReadError | KeyUnavailableError)
    assert bool(caplog.records) == is_operators
    paths = [path for path in ("/k/a.key", "/b/x.enc", "/host/a.bundle") if path in str(error)]
    assert all(path in caplog.text for path in paths), "the operator hears what clients don't"
    assert "/" not in answer.get_json()["error"]


def kinds(of: type[ApplianceError]) -> set[type[ApplianceError]]:
    return {of}.union(*(kinds(each) for each in of.__subclasses__()))


def test_only_errors_that_speak_of_a_request_alone_tell_clients_their_text() -> None:
    """A new kind of error tells nothing until somebody decides otherwise, here as well."""
    answered = (InputError, NotFoundError, AuthenticationError, BusyError)
    public = (BundleIntegrityError, BundleRefusedError)
    for kind in kinds(ApplianceError) - {AnsweredError}:
        tells_all = kind.client_text is AnsweredError.client_text
        assert tells_all == issubclass(kind, (*answered, *public)), kind


def test_defect_in_the_application_itself_is_opaque(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise LookupError("a part of the request")

    monkeypatch.setattr("app.server.routes.infer.decode_request", fail)
    answer = client.post("/v2/models/sums/infer", json=INFER)
    assert (answer.status_code, answer.get_json()) == (500, {"error": "internal error"})
    assert "LookupError" in caplog.text
    assert "a part of the request" not in caplog.text
