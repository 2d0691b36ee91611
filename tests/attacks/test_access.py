"""Clients that guess, steal, come back after they were revoked, or take what is another's."""

from __future__ import annotations

import base64
import json
import secrets
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest

from app.access.admission import Gate
from app.access.policy import Quotas
from app.limits import MAX_REFUSALS
from app.server.wsgi import ADMISSION
from tests import served
from tests.policies import bearer, policy, tenant
from tests.unit.app.server.clients import (
    WATCHDOG_S,
    Application,
    Client,
    request_bytes,
    serving,
    until,
)
from tests.unit.app.server.routes.requests import INFER

BODY = json.dumps(INFER).encode()
SPELLINGS = (("shades", "nobody"), ("sh%61des", "n%6fbody"), ("%73hades", "%6eobody"))


class Guarded:
    """The real routes behind the real gate; remembers who got through."""

    def __init__(self) -> None:
        self.models = served.models()
        self.seen: list[dict[str, Any]] = []
        self._routes = served.application(self.models, None)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        self.seen.append(environ)
        return self._routes(environ, start_response)


@pytest.fixture
def guarded() -> Guarded:
    return Guarded()


CLINIC, TOKEN = tenant("clinic", models=frozenset({"sums"}))
BANK, BANK_TOKEN = tenant("bank", models=frozenset({"shades"}))


@pytest.fixture
def client(guarded: Guarded) -> Iterator[Client]:
    with (
        serving(guarded, gate=Gate(policy(CLINIC, BANK))) as server,
        Client(server.address) as client,
    ):
        yield client


def test_a_tenant_gets_its_answer(guarded: Guarded, client: Client) -> None:
    answer = client.ask("POST", "/v2/models/sums/infer", BODY, **bearer(TOKEN))
    assert answer.status == 200
    (call,) = guarded.models.calls
    assert call.tenant == "clinic"
    assert guarded.seen[0][ADMISSION].tenant == "clinic"
    assert "HTTP_AUTHORIZATION" not in guarded.seen[0]
    assert not any(TOKEN in str(value) for value in guarded.seen[0].values())


def test_guessed_tokens_reach_nothing(guarded: Guarded, client: Client) -> None:
    """Neither with a known id nor without; the answers tell the guesser nothing."""
    token_id = TOKEN.split("_")[1]
    said = set()
    for number in range(MAX_REFUSALS):
        secret = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip("=")
        guess = f"cloister_{token_id if number % 2 else secrets.token_hex(8)}_{secret}"
        answer = client.ask("POST", "/v2/models/sums/infer", BODY, **bearer(guess))
        said.add((answer.status, answer.body, answer.headers["www-authenticate"]))
    assert len(said) == 1
    assert said.pop()[0] == 401
    assert guarded.seen == []
    assert client.is_closed(), "each so many guesses cost a handshake"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Cookie": f"Authorization=Bearer {TOKEN}"},
        {"X_Authorization": f"Bearer {TOKEN}"},
        {"Proxy_Authorization": f"Bearer {TOKEN}"},
        {"X_Cloister_Admission": "clinic"},
        {"Cloister.admission": "clinic"},
    ],
)
def test_nothing_else_is_taken_for_a_token(
    guarded: Guarded, client: Client, headers: dict[str, str]
) -> None:
    assert client.ask("GET", "/v2", **headers).status == 401
    path = f"/v2?access_token={TOKEN}"
    assert client.ask("GET", path, **headers).status == 401
    assert guarded.seen == []


def test_two_tokens_in_one_request_are_refused(guarded: Guarded, client: Client) -> None:
    twice = b"".join(f"Authorization: Bearer {each}\r\n".encode() for each in (TOKEN, BANK_TOKEN))
    client.send(b"GET /v2 HTTP/1.1\r\nHost: h\r\n" + twice + b"\r\n")
    assert client.response().status == 400
    assert guarded.seen == []


def test_a_revoked_token_reaches_nothing(guarded: Guarded) -> None:
    gate = Gate(policy(replace(CLINIC, tokens=()), BANK))
    with serving(guarded, gate=gate) as server, Client(server.address) as client:
        for path in ("/v2", "/v2/models/sums", "/v2/models/sums/ready"):
            assert client.ask("GET", path, **bearer(TOKEN)).status == 401
        assert guarded.seen == []
        assert client.ask("GET", "/v2/health/ready", **bearer(TOKEN)).status == 200


def test_another_tenant_s_model_is_like_one_that_does_not_exist(
    guarded: Guarded, client: Client
) -> None:
    """By every spelling of the path, with and without a body."""
    for path in (
        "/v2/models/{}/infer",
        "/v2/models/{}/infer?a=b",
        "/v2/models/{}/versions/1/infer",
        "/v1/models/{}/classify",
        "/v2/models/{}/infer/",
        "/v2/models/./{}/infer",
        "/v2/models/x/../{}/infer",
        "/v2//models/{}/infer",
    ):
        for name, nobodys in SPELLINGS:
            hidden, unknown = (
                client.ask("POST", path.format(each), BODY, **bearer(TOKEN))
                for each in (name, nobodys)
            )
            assert (hidden.status, set(hidden.headers)) == (unknown.status, set(unknown.headers))
            assert hidden.body.replace(b"shades", b"nobody") == unknown.body
            assert hidden.status not in (200, 401, 403)
    for path in ("/v2/models/{}", "/v2/models/{}/config", "/v2/models/{}/ready"):
        hidden, unknown = (
            client.ask("GET", path.format(each), **bearer(TOKEN)) for each in ("shades", "nothing")
        )
        assert hidden.status == unknown.status == 404
        assert hidden.json()["error"].replace("shades", "nothing") == unknown.json()["error"]
    listed = client.ask("POST", "/v2/repository/index", **bearer(TOKEN)).json()
    assert [each["name"] for each in listed] == ["sums"]
    assert guarded.models.calls == []


def test_a_tenant_without_the_right_changes_nothing(guarded: Guarded, client: Client) -> None:
    for path in ("/v2/repository/models/sums/load", "/v2/repository/models/s%75ms/unload"):
        assert client.ask("POST", path, b"{}", **bearer(TOKEN)).status == 403
    assert client.ask("GET", "/v2/models/stats", **bearer(TOKEN)).status == 403
    assert guarded.models.changes == []


def test_a_large_body_without_credentials_is_never_received() -> None:
    application = Application()
    gate = Gate(policy(CLINIC))
    with serving(application, gate=gate) as server, Client(server.address) as client:
        client.send(b"POST /v2 HTTP/1.1\r\nHost: h\r\nContent-Length: 33554432\r\n\r\n")
        answer = client.response()
        assert (answer.status, answer.headers["connection"]) == (401, "close")
        assert server.front.buffered_bytes == 0
        assert client.is_closed()
    assert application.calls == []


def test_64_connections_of_one_tenant_leave_the_other_its_share() -> None:
    """The greedy one is told when to come back; the quiet one gets a worker at once."""
    greedy, greedy_token = tenant("greedy", quotas=Quotas(concurrent=2))
    quiet, quiet_token = tenant("quiet")
    application = Application()
    gate = Gate(policy(greedy, quiet))
    with ExitStack() as stack:
        server = stack.enter_context(serving(application, workers=3, gate=gate))
        stack.callback(application.release.set)
        clients = [stack.enter_context(Client(server.address)) for _ in range(64)]
        for number, client in enumerate(clients):
            client.send(request_bytes("POST", "/wait", b"x", **bearer(greedy_token)))
            if number < 2:
                assert application.entered.acquire(timeout=WATCHDOG_S)
        answers = [client.response() for client in clients[2:]]
        assert {(each.status, each.headers["retry-after"]) for each in answers} == {(429, "1")}
        assert all("connection" not in each.headers for each in answers), "nobody has to come anew"
        other = stack.enter_context(Client(server.address))
        for _ in range(20):
            assert other.ask("POST", "/echo", b"alive", **bearer(quiet_token)).status == 200
        assert application.calls.count("/wait") == 2
        application.release.set()
        assert [client.response().status for client in clients[:2]] == [200, 200]
        again = clients[-1].ask("POST", "/echo", b"later", **bearer(greedy_token))
        assert again.status == 200


def test_clients_that_vanish_do_not_free_what_their_requests_still_use() -> None:
    """And what they used comes back when it is no longer in use."""
    limited, token = tenant(quotas=Quotas(concurrent=1))
    application = Worker()
    with serving(application, workers=2, gate=Gate(policy(limited))) as server:
        leaving = Client(server.address)
        leaving.send(request_bytes("POST", "/wait", b"x", **bearer(token)))
        assert application.entered.acquire(timeout=WATCHDOG_S)
        leaving.reset()
        until(lambda: server.front.connections == 0)
        with Client(server.address) as client:
            refused = client.ask("POST", "/echo", b"x", **bearer(token))
            assert refused.status == 429
            application.release.set()
            until(lambda: server.front.requests == 0)
            assert client.ask("POST", "/echo", b"x", **bearer(token)).status == 200


class Worker:
    """WSGI that works on /wait until it is released, whether anybody waits for it or not."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.release = threading.Event()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        if environ["PATH_INFO"] == "/wait":
            self.entered.release()
            assert self.release.wait(WATCHDOG_S)
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]


def test_a_rate_is_kept_by_a_client_that_never_waits() -> None:
    limited, token = tenant(quotas=Quotas(requests_per_s=5))
    other, other_token = tenant("other")
    application = Application()
    with (
        # The clock stands still.
        serving(application, gate=Gate(policy(limited, other)), clock=lambda: 1000.0) as server,
        Client(server.address) as client,
    ):
        statuses = [client.ask("GET", "/echo", **bearer(token)).status for _ in range(50)]
        assert statuses == [200] * 5 + [429] * 45
        assert client.ask("GET", "/echo", **bearer(other_token)).status == 200
    assert len(application.calls) == 6
