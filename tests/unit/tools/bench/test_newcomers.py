"""A client that connects anew is counted once for each time that it came."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from app.server.server import ApplianceServer
from tests.unit.app.server.clients import Application, identity, serving
from tools.bench import newcomers
from tools.bench.client import Endpoint, Request
from tools.bench.load import Service
from tools.serving_client import Trust

TRUST = Trust(ca_text=identity().certificate_pem.decode(), token="any")


@pytest.fixture
def application() -> Application:
    return Application()


@pytest.fixture
def server(application: Application, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApplianceServer]:
    monkeypatch.setattr(newcomers, "ROUND_TRIP_S", 0.0)
    with serving(application) as found:
        yield found


def service(port: int, route: str, trust: Trust = TRUST) -> Service:
    endpoint = Endpoint(f"https://localhost:{port}", trust)
    return Service(endpoint, "m", Request([b"he", b"llo"], {"X": "y"}, route))


def test_who_is_served_has_a_latency(server: ApplianceServer, application: Application) -> None:
    with newcomers.newcomers(service(server.address[1], "/echo")) as heard:
        pass
    assert len(heard.latencies) == 1
    assert not heard.errors
    assert application.calls == ["/echo"]
    assert server.front.counters.handshakes == 1


def test_who_is_refused_is_an_error_with_its_status(server: ApplianceServer) -> None:
    with newcomers.newcomers(service(server.address[1], "/status/503")) as heard:
        pass
    assert heard.errors == {"status 503": 1}
    assert not heard.latencies


def test_who_trusts_nobody_asks_nothing(server: ApplianceServer, application: Application) -> None:
    with newcomers.newcomers(service(server.address[1], "/echo", Trust(token="any"))) as heard:
        pass
    assert heard.errors == {"SSLCertVerificationError": 1}
    assert application.calls == []


def test_nobody_there_is_an_error() -> None:
    with newcomers.newcomers(service(9, "/echo")) as heard:
        pass
    assert heard.errors == {"ConnectionRefusedError": 1}
