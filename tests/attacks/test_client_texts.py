"""What clients read of failures: no path, no word of a library, and nothing that others do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NoReturn

import pytest

from app import errors
from app.errors import (
    ApplianceError,
    BundleFormatError,
    BusyError,
    ConfigError,
    ExecutionError,
    KeyUnavailableError,
    MemoryBudgetError,
)
from app.keys import FolderKeySource
from app.tensors import Array
from tests import served
from tests.unit.app.server.routes.requests import INFER, SHADES, SUMS, picture

SECRET = "/run/keys/digits.key"
MANAGED = "/v2/repository/models/sums/load"


def kinds(kind: type[ApplianceError] = ApplianceError) -> Iterator[type[ApplianceError]]:
    yield kind
    for each in kind.__subclasses__():
        if each.__module__ == errors.__name__:
            yield from kinds(each)


def made(kind: type[ApplianceError]) -> ApplianceError:
    """An error that holds a path wherever it may hold a text."""
    if issubclass(kind, MemoryBudgetError):
        return kind(0, SECRET, 7, 5)
    if issubclass(kind, errors.CancelledError):
        return kind(0)
    if issubclass(kind, ExecutionError):
        return kind(0, SECRET, SECRET)
    if issubclass(kind, ConfigError):
        return kind(SECRET, [SECRET])
    if issubclass(kind, errors.BundleReadError):
        return kind(Path(SECRET), OSError(2, SECRET))
    return kind() if issubclass(kind, errors.BundleIntegrityError) else kind(SECRET)


FOR_CLIENTS = {
    *("InputError", "PayloadTooLargeError", "UnsupportedMediaError", "NotFoundError"),
    *("AuthenticationError", "ForbiddenError", "BusyError"),
    *("AnsweredError", "BundleRefusedError"),
}
"""Errors whose own text is sent: `tests/architecture` says who may raise them."""


@pytest.mark.parametrize("kind", [*kinds()])
def test_only_errors_for_clients_say_their_own_text(kind: type[ApplianceError]) -> None:
    assert (SECRET in made(kind).client_text) == (kind.__name__ in FOR_CLIENTS)


FAILURES = [
    KeyUnavailableError(f"key file {SECRET}: No such file or directory"),
    BundleFormatError(f"{SECRET}: optimised for another CPU"),
    ExecutionError(0, "load", f"onnxruntime: can't open {SECRET}"),
    ConfigError(SECRET, [SECRET]),
    OSError(2, "No such file", SECRET),
    RuntimeError(f"Load model from {SECRET} failed"),
]


@pytest.mark.parametrize("error", FAILURES)
@pytest.mark.parametrize("path", [SUMS, SHADES, MANAGED, "/v2/models/sums", "/v2/repository/index"])
def test_no_route_says_where_things_lie(
    error: Exception, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> NoReturn:
        raise error

    for name in ("find", "load", "unload", "index"):
        monkeypatch.setattr(served.Models, name, fail)
    client = served.client(served.models())
    ask = client.get if path == "/v2/models/sums" else client.post
    answer = ask(path, json={} if "repository" in path else INFER)
    assert answer.status_code in (500, 503)
    assert not any(
        part in answer.get_data(as_text=True) for part in ("/run", "onnxruntime", "No s")
    )


@pytest.mark.parametrize("error", FAILURES)
def test_nor_does_running_a_model(error: Exception) -> None:
    def fail(values: Mapping[str, Array]) -> dict[str, Array]:
        del values
        raise error

    models = served.models()
    models.served["sums"].compute = fail
    answer = served.client(models).post(SUMS, json=INFER)
    assert answer.status_code in (500, 503)
    assert "/run" not in answer.get_data(as_text=True)


def test_a_key_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(KeyUnavailableError) as caught:
        FolderKeySource(tmp_path).model_key("digits")
    assert str(tmp_path) in str(caught.value), "the operator reads it"
    assert caught.value.client_text == "the model's key can't be had"


def test_words_of_the_http_library_stay_inside() -> None:
    client = served.client(served.models())
    answer = client.post(SHADES, data=picture(), headers={"Content-Type": "image/png;=;"})
    assert answer.status_code == 200
    for path, said in (("/v2/none", "no such route"), ("/v2/models/sums/", "no such route")):
        assert said in client.get(path).get_json()["error"]
    refused = client.delete("/v2")
    assert refused.get_json() == {"error": "the route doesn't take this method"}


def test_busy_is_told_with_a_time() -> None:
    assert BusyError("too many requests wait", 3).client_text == "too many requests wait"
