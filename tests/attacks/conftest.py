"""A server that hostile clients meet."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from app.config import TLS_LIBRARIES
from app.server.server import ApplianceServer
from tests.unit.app.server import clients
from tests.unit.app.server.clients import Application, serving

WORKERS = 2


@pytest.fixture(params=TLS_LIBRARIES)
def tls_library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What every server of the test has for TLS: one after the other."""
    name: str = request.param
    monkeypatch.setattr(clients, "LIBRARY", name)
    return name


@pytest.fixture
def application() -> Application:
    return Application()


@pytest.fixture
def server(application: Application, tls_library: str) -> Iterator[ApplianceServer]:
    del tls_library  # it has been chosen
    with serving(application, workers=WORKERS) as server:
        yield server
