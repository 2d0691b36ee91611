"""A server that hostile clients meet."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from app.server.http import ApplianceServer
from tests.unit.app.server.clients import Application, serving

WORKERS = 2


@pytest.fixture
def application() -> Application:
    return Application()


@pytest.fixture
def server(application: Application) -> Iterator[ApplianceServer]:
    with serving(application, workers=WORKERS) as server:
        yield server
