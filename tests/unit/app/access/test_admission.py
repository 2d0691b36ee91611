"""Who is let in, as what, and what the others are told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.access.admission import Admission, Gate, Pass, Refusal
from app.access.policy import Quotas
from tests.policies import FINGERPRINT, Head, head, policy, tenant
from tests.unit.app.server.routes.test_rights import PAGE, ROUTES
from tools.access_policy import make_token


def refused(gate: Gate, asked: Head, fingerprint: str | None = None, now: float = 0.0) -> Refusal:
    found = gate.admit(asked, fingerprint, now)
    assert isinstance(found, Refusal)
    return found


def let_in(gate: Gate, asked: Head, fingerprint: str | None = None, now: float = 0.0) -> Pass:
    found = gate.admit(asked, fingerprint, now)
    assert isinstance(found, Pass)
    return found


CLINIC, TOKEN = tenant("clinic", models=frozenset({"digits"}), certificates=(FINGERPRINT,))
OTHER, OTHER_TOKEN = tenant("other", certificates=("cd" * 32,))
GATE = Gate(policy(CLINIC, OTHER))
AS_CLINIC = Admission("clinic", frozenset({"digits"}), frozenset({"infer", "metadata"}))
STRANGER, _ = make_token("")


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/health/ready"])
@pytest.mark.parametrize("gate", [GATE, Gate(None), Gate(None, insecure_open_access=True)])
def test_health_is_open_to_everybody_and_nobody_in_particular(gate: Gate, path: str) -> None:
    for asked in (head(None, path, "GET"), head(STRANGER, path + "?x", "GET")):
        assert let_in(gate, asked).admission is None


@pytest.mark.parametrize("path", PAGE)
def test_the_page_that_asks_for_a_token_is_open_where_tokens_count(path: str) -> None:
    for token in (None, STRANGER):
        assert let_in(GATE, head(token, path, "GET")).admission is None
        assert refused(GATE, head(token, path, "POST")).status == 401
        assert refused(GATE, head(token, path + "x", "GET")).status == 401
    assert refused(Gate(None), head(None, path, "GET")).status == 403


@pytest.mark.parametrize(("method", "path", "right"), ROUTES)
def test_without_a_policy_only_health_is_open(method: str, path: str, right: str) -> None:
    for token in (None, TOKEN):
        refusal = refused(Gate(None), head(token, path, method))
        assert refusal.status == 403, right
        assert "no access policy" in refusal.message


def test_open_access_is_everything_but_manage_for_everybody() -> None:
    gate = Gate(None, insecure_open_access=True)
    for asked in (head(None), head("nonsense")):
        found = let_in(gate, asked).admission
        assert found == Admission("(everybody)", None, frozenset({"infer", "metadata", "metrics"}))
    refusal = refused(gate, head(TOKEN, "/v2/repository/models/digits/load"))
    assert refusal.status == 403
    assert "open access doesn't have the right 'manage'" in refusal.message
    assert "start the server with an access policy" in refusal.message


def test_a_policy_and_open_access_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="exclude"):
        Gate(policy(), insecure_open_access=True)


def test_an_empty_policy_lets_nobody_in() -> None:
    assert refused(Gate(policy()), head(TOKEN), FINGERPRINT).status == 401


@pytest.mark.parametrize(
    ("token", "fingerprint"), [(TOKEN, None), (None, FINGERPRINT), (TOKEN, FINGERPRINT)]
)
def test_a_tenant_by_token_or_certificate_or_both(
    token: str | None, fingerprint: str | None
) -> None:
    assert let_in(GATE, head(token), fingerprint).admission == AS_CLINIC


def test_the_scheme_is_read_without_case() -> None:
    for scheme in (b"bearer", b"BEARER", b"Bearer  "):
        asked = replace(head(None), authorization=scheme + b" " + TOKEN.encode())
        assert let_in(GATE, asked).admission == AS_CLINIC


@pytest.mark.parametrize(
    "authorization",
    [
        b"",
        b"Bearer",
        b"Bearer ",
        TOKEN.encode(),
        b"Basic " + TOKEN.encode(),
        b"Bearer " + STRANGER.encode(),
        b"Bearer " + TOKEN.encode() + b" x",
        b"Bearer " + TOKEN.encode() + b", Bearer " + TOKEN.encode(),
        b"Bearer " + TOKEN.encode()[:-1],
        b"Bearer \xff",
        b"Bearer\t" + TOKEN.encode(),
    ],
)
def test_a_wrong_token_is_refused_even_with_a_right_certificate(authorization: bytes) -> None:
    asked = replace(head(None), authorization=authorization)
    for fingerprint in (None, FINGERPRINT):
        refusal = refused(GATE, asked, fingerprint)
        assert refusal.status == 401
        assert refusal.headers == (("WWW-Authenticate", "Bearer"),)
        assert TOKEN not in refusal.message


def test_credentials_of_two_tenants_are_refused() -> None:
    refusal = refused(GATE, head(OTHER_TOKEN), FINGERPRINT)
    assert (refusal.status, "different tenants" in refusal.message) == (401, True)


@pytest.mark.parametrize("fingerprint", [None, "", "ab" * 31, FINGERPRINT.upper(), "00" * 32])
def test_an_unknown_certificate_is_none(fingerprint: str | None) -> None:
    assert refused(GATE, head(None), fingerprint).status == 401
    assert let_in(GATE, head(TOKEN), fingerprint).admission == AS_CLINIC


def test_a_revoked_token_is_like_one_that_never_was() -> None:
    revoked = Gate(policy(replace(CLINIC, tokens=()), OTHER))
    assert refused(revoked, head(TOKEN)) == refused(revoked, head(STRANGER))
    assert refused(revoked, head(TOKEN)).status == 401


@pytest.mark.parametrize(("method", "path", "right"), ROUTES)
def test_what_is_refused_before_the_body_is_what_the_routes_refuse(
    method: str, path: str, right: str
) -> None:
    """Requests without a body are left to the routes; no request that they take is refused."""
    lacking, token = tenant(rights=frozenset({"infer", "metadata", "manage", "metrics"} - {right}))
    has_model = method == "POST" and "sums" in path
    found = Gate(policy(lacking)).admit(head(token, path, method), None, 0.0)
    assert isinstance(found, Refusal) == has_model
    if isinstance(found, Refusal):
        assert found == Refusal(403, f"these credentials don't have the right {right!r}")
    having, token = tenant(models=frozenset({"sums"}), rights=frozenset({right}))
    let_in(Gate(policy(having)), head(token, path, method))
    foreign, token = tenant(models=frozenset({"shades"}), rights=frozenset({right}))
    found = Gate(policy(foreign)).admit(head(token, path, method), None, 0.0)
    assert isinstance(found, Refusal) == has_model
    if isinstance(found, Refusal):
        assert found == Refusal(404, "there is no model 'sums'")


def test_a_used_up_quota_is_429_until_it_is_not() -> None:
    limited, token = tenant(quotas=Quotas(requests_per_s=2))
    gate = Gate(policy(limited, OTHER))
    for _ in range(2):
        let_in(gate, head(token), None, 10.0)
    refusal = refused(gate, head(token), None, 10.0)
    assert (refusal.status, refusal.headers) == (429, (("Retry-After", "1"),))
    assert "requests_per_s" in refusal.message
    let_in(gate, head(OTHER_TOKEN), None, 10.0)
    let_in(gate, head(token), None, 10.5)


def test_bytes_count_before_they_are_received() -> None:
    limited, token = tenant(quotas=Quotas(bytes_per_s=1000))
    gate = Gate(policy(limited))
    let_in(gate, replace(head(token), body_bytes=3400))
    refusal = refused(gate, replace(head(token), body_bytes=900))
    assert (refusal.status, refusal.retry_after_s) == (429, 4)  # 2500 of debt and 1000 to spend


def test_all_credentials_of_a_tenant_share_its_quota() -> None:
    limited, token = tenant(quotas=Quotas(concurrent=1), certificates=(FINGERPRINT,))
    other_token, record = make_token("")
    gate = Gate(policy(replace(limited, tokens=(*limited.tokens, record))))
    passed = let_in(gate, head(token))
    assert refused(gate, head(other_token)).status == 429
    assert refused(gate, head(None), FINGERPRINT).status == 429
    passed.release()
    passed.release()
    let_in(gate, head(other_token))
    assert refused(gate, head(token)).status == 429, "a second release gives nothing back"


def test_what_is_refused_for_its_rights_costs_no_quota() -> None:
    limited, token = tenant(
        rights=frozenset({"infer"}), models=frozenset({"digits"}), quotas=Quotas(requests_per_s=1)
    )
    gate = Gate(policy(limited))
    for _ in range(10):
        assert refused(gate, head(token, "/v2/models/sums/infer")).status == 404
        assert refused(gate, head(token, "/v2/repository/models/digits/load")).status == 403
    let_in(gate, head(token))
