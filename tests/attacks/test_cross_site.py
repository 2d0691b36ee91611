"""A page of another site makes the operator's browser ask: with the certificate that it holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.access.admission import Gate, Pass, Refusal
from app.access.policy import RIGHTS, Quotas
from app.server.server import ApplianceServer
from tests import served
from tests.policies import FINGERPRINT, Head, policy, tenant
from tests.unit.app.server.clients import Client, endpoint, serving
from tests.unit.app.server.tls.issued import issue

ALL = frozenset(RIGHTS)
OPERATOR, TOKEN = tenant("operator", rights=ALL, certificates=(FINGERPRINT,))
GATE = Gate(policy(OPERATOR))
OPEN = Gate(None, insecure_open_access=True)
UNLOAD = Head(b"/v2/repository/models/sums/unload", host=b"cloister.example:8443")
INFER = replace(UNLOAD, target=b"/v2/models/sums/infer")

FOREIGN: list[dict[str, Any]] = [
    {"fetch_site": b"cross-site"},
    {"fetch_site": b"same-site"},
    {"fetch_site": b"SAME-ORIGIN "},
    {"fetch_site": b""},
    {"origin": b"https://evil.example"},
    {"origin": b"null"},
    {"origin": b""},
    {"origin": b"http://cloister.example:8443"},
    {"origin": b"https://cloister.example"},
    {"origin": b"https://cloister.example:8444"},
    {"origin": b"https://cloister.example:8443.evil.example"},
    {"origin": b"https://cloister.example:8443", "host": None},
    {"origin": b"https://", "host": b""},
    {"origin": b"https://evil.example", "fetch_site": b"same-origin"},
    {"origin": b"https://cloister.example:8443", "fetch_site": b"cross-site"},
]


@pytest.mark.parametrize("change", FOREIGN)
@pytest.mark.parametrize("method", [b"POST", b"GET", b"HEAD", b"PUT", b"DELETE", b"OPTIONS"])
@pytest.mark.parametrize(
    "target",
    [
        UNLOAD.target,
        INFER.target,
        b"/v1/models/shades/classify",
        b"/v2/repository/index",
        b"/v2/repository/models/sums/unl%6fad",
        b"/metrics",
        b"/v2",
    ],
)
def test_what_another_site_asks_for_is_refused(
    change: dict[str, Any], method: bytes, target: bytes
) -> None:
    asked = replace(UNLOAD, target=target, method=method, **change)
    for gate, fingerprint in ((GATE, FINGERPRINT), (OPEN, None)):
        refusal = gate.admit(asked, fingerprint, 0.0)
        assert isinstance(refusal, Refusal)
        assert refusal.status == 403
        assert "another site" in refusal.message
    token = replace(asked, authorization=f"Bearer {TOKEN}".encode())
    assert isinstance(GATE.admit(token, FINGERPRINT, 0.0), Pass), "no browser adds a token"


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"fetch_site": b"same-origin"},
        {"fetch_site": b"none"},
        {"origin": b"https://cloister.example:8443", "fetch_site": b"same-origin"},
        {"origin": b"HTTPS://Cloister.Example:8443"},
        {"origin": b"https://cloister.example", "host": b"cloister.example"},
        {"origin": b"https://cloister.example", "host": b"Cloister.example:443"},
    ],
)
def test_what_its_own_page_or_a_person_asks_for_is_answered(change: dict[str, Any]) -> None:
    assert isinstance(GATE.admit(replace(UNLOAD, **change), FINGERPRINT, 0.0), Pass)


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        b"",
        b"text/plain",
        b"text/plain;application/json",
        b"application/x-www-form-urlencoded",
        b"multipart/form-data; boundary=application/json",
        b"application/jsonp",
    ],
)
@pytest.mark.parametrize(
    "target",
    [
        UNLOAD.target,
        b"/v2/repository/models/sums/load?x",
        b"/v2/%72epository/models/sums/unload",
        b"/v2/repository/models/sums/unl%6fad",
        b"/v2/logging",
    ],
)
@pytest.mark.parametrize("method", [b"POST", b"PUT", b"DELETE"])
def test_a_browser_that_says_nothing_can_change_nothing(
    content_type: bytes | None, target: bytes, method: bytes
) -> None:
    """Of what a page may send unasked, nothing is JSON."""
    asked = replace(UNLOAD, content_type=content_type, target=target, method=method)
    refusal = GATE.admit(asked, FINGERPRINT, 0.0)
    assert isinstance(refusal, Refusal)
    assert (refusal.status, "application/json" in refusal.message) == (403, True)
    token = replace(asked, authorization=f"Bearer {TOKEN}".encode())
    assert isinstance(GATE.admit(token, None, 0.0), Pass)


@pytest.mark.parametrize("content_type", [b"text/plain", b"multipart/form-data", None])
def test_forms_and_pictures_may_come_in_any_form(content_type: bytes | None) -> None:
    for target in (INFER.target, b"/v1/models/shades/classify", b"/v2/repository/index"):
        asked = replace(INFER, content_type=content_type, target=target)
        assert isinstance(GATE.admit(asked, FINGERPRINT, 0.0), Pass)


@pytest.mark.parametrize("gate", [GATE, OPEN])
def test_a_link_to_the_page_works(gate: Gate) -> None:
    for method in (b"GET", b"HEAD") if gate is OPEN else (b"GET",):
        link = Head(b"/", method, fetch_site=b"cross-site")
        assert isinstance(gate.admit(link, None, 0.0), Pass)


def test_what_is_refused_takes_nothing_of_the_quota() -> None:
    one, _ = tenant("one", rights=ALL, quotas=Quotas(concurrent=1), certificates=(FINGERPRINT,))
    gate = Gate(policy(one))
    for _ in range(3):
        refused = gate.admit(replace(INFER, fetch_site=b"cross-site"), FINGERPRINT, 0.0)
        assert isinstance(refused, Refusal)
    assert isinstance(gate.admit(INFER, FINGERPRINT, 0.0), Pass)


CA = issue("ca", is_ca=True)
BROWSER = issue("operator", CA)


@pytest.fixture
def models() -> served.Models:
    return served.models()


@pytest.fixture
def server(models: served.Models, tls_library: str) -> Iterator[ApplianceServer]:
    del tls_library  # it has been chosen
    known, _ = tenant("operator", rights=ALL, certificates=(BROWSER.fingerprint,))
    with serving(
        served.application(models, None),
        tls=endpoint(client_ca_pem=CA.pem),
        gate=Gate(policy(known)),
    ) as server:
        yield server


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example", "Sec_Fetch_Site": "cross-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null", "Content_Type": "application/json"},
        {"Sec_Fetch_Site": "same-site", "Content_Type": "application/json"},
        {"Content_Type": "text/plain"},
        {"Content_Type": "multipart/form-data; boundary=x"},
    ],
)
def test_unload_by_a_foreign_page_unloads_nothing(
    server: ApplianceServer, models: served.Models, headers: dict[str, str], tmp_path: Path
) -> None:
    path = "/v2/repository/models/sums/unload"
    with Client(server.address, BROWSER.context(tmp_path)) as client:
        assert client.ask("POST", path, **headers).status == 403
        assert models.changes == []
        assert client.ask("POST", path, Content_Type="application/json").status == 200
    assert models.changes == [("unload", "sums")]


def test_two_origins_are_one_too_many(server: ApplianceServer, tmp_path: Path) -> None:
    own = f"https://localhost:{server.address[1]}"
    asked = f"GET /v2 HTTP/1.1\r\nHost: localhost\r\nOrigin: {own}\r\norigin: null\r\n\r\n"
    with Client(server.address, BROWSER.context(tmp_path)) as client:
        client.send(asked.encode())
        assert client.response().status == 400
