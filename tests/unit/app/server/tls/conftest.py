"""Every test on every library and version."""

from __future__ import annotations

import pytest

from tests.unit.app.server import clients
from tests.unit.app.server.tls import pair
from tests.unit.app.server.tls.pair import WIRES, Wire


@pytest.fixture(params=WIRES, ids=str)
def wire(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Wire:
    """Chooses the library of the servers and the newest version of the clients."""
    chosen: Wire = request.param
    monkeypatch.setattr(clients, "LIBRARY", chosen.library)
    monkeypatch.setattr(pair, "WIRE", chosen)
    return chosen
