"""What the event loop counts, with real clients."""

from __future__ import annotations

from typing import Any

from app.access.admission import Gate
from app.access.policy import Quotas
from app.server.counters import TRANSPORT, TransportCounters
from tests import policies
from tests.unit.app.server.clients import (
    Application,
    Client,
    client_hello,
    serving,
    tcp,
    until,
)


def test_handshakes_and_connections() -> None:
    """Every connection ends up as one handshake, completed or failed."""
    with serving(Application()) as server:
        seen = server.front.counters
        with Client(server.address) as client:
            assert client.ask("GET", "/echo").status == 200
        with tcp(server) as silent:
            silent.sendall(client_hello()[:20])
            until(lambda: server.front.connections == 1)
        with tcp(server) as stranger:
            stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
            until(lambda: seen.handshake_failures == 2)
        until(lambda: server.front.connections == 0)
        assert (seen.accepted, seen.handshakes, seen.handshake_failures) == (3, 1, 2)
        assert seen.answers == {200: 1}
        assert sum(seen.refusals.values()) == 0


def test_refusals_by_reason() -> None:
    quotas = Quotas(requests_per_s=1)
    tenant, token = policies.tenant(quotas=quotas, rights=frozenset({"metadata"}))
    with (
        serving(Application(), gate=Gate(policies.policy(tenant)), clock=lambda: 0.0) as server,
        Client(server.address) as client,
    ):
        known = policies.bearer(token)
        assert client.ask("GET", "/echo").status == 401
        assert client.ask("POST", "/v2/models/sums/infer", b"", **known).status == 403
        assert client.ask("GET", "/echo", b"", **known).status == 200
        assert client.ask("GET", "/echo", b"", **known).status == 429
        seen = server.front.counters
        expected = {"credentials": 1, "right": 1, "model": 0, "body": 0, "quota": 1, "busy": 0}
        assert seen.refusals == expected
        assert seen.answers == {401: 1, 403: 1, 200: 1, 429: 1}


def test_what_a_route_is_given_stays_as_it_was() -> None:
    given: list[TransportCounters] = []

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        given.append(environ[TRANSPORT]())
        start_response("200 OK", [])
        return []

    with serving(application) as server, Client(server.address) as client:
        client.ask("GET", "/")
        server.front.counters.refused(503)
    (copy,) = given
    assert (copy.refusals["busy"], copy.answers) == (0, {})
    assert (copy.connections, copy.working, copy.queued, copy.body_bytes) == (1, 1, 0, 0)
