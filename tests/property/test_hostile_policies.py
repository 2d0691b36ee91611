"""Whatever bytes come as a policy or as a head: one of our errors, or a value."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from app.access.admission import Gate, Pass
from app.access.policy import parse_policy
from app.errors import ConfigError
from tests.policies import POLICY, Head, policy, tenant
from tests.property.test_hostile_bytes import BYTES, almost
from tools.access_policy import render_policy

CLINIC, TOKEN = tenant()
GATE = Gate(policy(CLINIC))
TEXTS = st.binary(max_size=80) | st.sampled_from([b"Bearer ", b"Bearer cloister_", TOKEN.encode()])


@settings(max_examples=300)
@given(BYTES | almost(POLICY))
def test_policy(raw: bytes) -> None:
    """What is accepted is written and read again as the same policy."""
    try:
        found = parse_policy(raw)
    except ConfigError as error:
        assert error.problems
        return
    assert parse_policy(render_policy(found)) == found


def test_the_right_policy_is_right() -> None:
    found = parse_policy(json.dumps(POLICY).encode())
    assert json.loads(render_policy(found)) == POLICY | {
        "tenants": [tenant | {"rights": sorted(tenant["rights"])} for tenant in POLICY["tenants"]]
    }


@settings(max_examples=300)
@given(TEXTS, TEXTS, st.lists(TEXTS, max_size=3))
def test_only_the_token_lets_in(target: bytes, prefix: bytes, rest: list[bytes]) -> None:
    authorization = prefix + b"".join(rest)
    found = GATE.admit(Head(b"/" + target, b"POST", authorization), None, 0.0)
    is_right = authorization.lower().startswith(b"bearer ") and (
        authorization[7:].lstrip(b" ") == TOKEN.encode()
    )
    assert isinstance(found, Pass) == is_right
