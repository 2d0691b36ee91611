"""A client certificate is a credential: its tenant's opens what it may do, others nothing."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.access.admission import Gate
from app.access.policy import Policy
from app.server.server import ApplianceServer
from tests.policies import tenant
from tests.unit.app.server.clients import Application, Client, client_context, endpoint, serving
from tests.unit.app.server.tls.issued import issue

INFER = "/v2/models/digits/infer"
CA = issue("ca", is_ca=True)
CLINIC = issue("clinic", CA)
OTHER = issue("somebody else of the same CA", CA)


@pytest.fixture
def clinic(application: Application, tls_library: str) -> Iterator[ApplianceServer]:
    del tls_library  # it has been chosen
    known, _ = tenant("clinic", certificates=(CLINIC.fingerprint,))
    tls = endpoint(client_ca_pem=CA.pem)
    with serving(application, tls=tls, gate=Gate(Policy((known,)))) as server:
        yield server


def test_a_tenants_certificate_lets_it_in(
    clinic: ApplianceServer, application: Application, tmp_path: Path
) -> None:
    context = CLINIC.context(tmp_path)
    for _ in range(2):  # the second may resume the first one's session
        with Client(clinic.address, context) as client:
            assert client.ask("POST", INFER, b"x").status == 200
    assert application.calls == [INFER] * 2


def test_another_certificate_of_the_same_ca_does_not(
    clinic: ApplianceServer, application: Application, tmp_path: Path
) -> None:
    with Client(clinic.address, OTHER.context(tmp_path)) as client:
        assert client.ask("POST", INFER, b"x").status == 401
    with Client(clinic.address, client_context()) as client:
        assert client.ask("POST", INFER, b"x").status == 401
    assert application.calls == []


def test_a_copied_fingerprint_is_no_certificate(
    clinic: ApplianceServer, application: Application
) -> None:
    claims = {"X_Client_Certificate": CLINIC.fingerprint, "Client_Cert": CLINIC.fingerprint}
    with Client(clinic.address) as client:
        assert client.ask("POST", INFER, b"x", **claims).status == 401
    assert application.calls == []


def test_a_strangers_certificate_ends_in_the_handshake(
    clinic: ApplianceServer, application: Application, tmp_path: Path
) -> None:
    context = issue("clinic", issue("ca", is_ca=True)).context(tmp_path)
    with (
        pytest.raises((ssl.SSLError, ConnectionError, EOFError)),
        Client(clinic.address, context) as client,
    ):
        client.ask("POST", INFER, b"x")
    assert application.calls == []
