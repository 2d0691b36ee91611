"""A policy is read whole and strictly, or not at all."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.access.policy import Quotas, parse_policy, read_policy
from app.errors import ConfigError
from app.limits import MAX_CREDENTIALS_PER_TENANT, MAX_POLICY_BYTES, MAX_TENANTS
from tests.policies import FINGERPRINT, POLICY

Change = Callable[[dict[str, Any]], object]


def changed(change: Change) -> bytes:
    content = copy.deepcopy(POLICY)
    change(content)
    return json.dumps(content).encode()


def clinic(**values: object) -> Change:
    return lambda content: content["tenants"][0].update(values)


def token(**values: object) -> Change:
    return lambda content: content["tenants"][0]["tokens"][0].update(values)


def quotas(**values: object) -> Change:
    return lambda content: content["tenants"][0]["quotas"].update(values)


def test_a_right_policy() -> None:
    first, second = parse_policy(json.dumps(POLICY).encode()).tenants
    assert first.name == "clinic"
    assert first.models == frozenset({"digits", "sums"})
    assert first.rights == {"infer", "metadata"}
    assert first.quotas == Quotas(requests_per_s=50, bytes_per_s=None, concurrent=8)
    assert [each.token_id for each in first.tokens] == ["0" * 16, "1" * 16]
    assert first.tokens[1].digest == b"\x11" * 32
    assert first.certificates == (FINGERPRINT,)
    assert second.models is None
    assert second.quotas == Quotas()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda p: p.update(format=2), "policy.format"),
        (lambda p: p.update(colour="red"), "unknown field(s) 'colour'"),
        (lambda p: p.pop("tenants"), "'tenants' is missing"),
        (lambda p: p.update(tenants={}), "expected an array"),
        (lambda p: p["tenants"].append("x"), "policy.tenants[2]: expected an object"),
        (lambda p: p.update(tenants=[{}] * (MAX_TENANTS + 1)), f"at most {MAX_TENANTS}"),
        (lambda p: p["tenants"][1].update(name="clinic"), "the tenant 'clinic' is given twice"),
        (
            lambda p: p["tenants"][1].update(certificates=[FINGERPRINT]),
            f"the certificate '{FINGERPRINT}' is given twice",
        ),
        (
            lambda p: p["tenants"][1]["tokens"].append(p["tenants"][0]["tokens"][0]),
            "the token id '0000000000000000' is given twice",
        ),
        (token(id="1" * 16), "the token id '1111111111111111' is given twice"),
        (clinic(colour="red"), "unknown field(s) 'colour'"),
        (clinic(name=""), "policy.tenants[0].name"),
        (clinic(name="Clinic"), "policy.tenants[0].name"),
        (clinic(name="clinic\n"), "policy.tenants[0].name"),
        (clinic(name='a"b'), "policy.tenants[0].name"),
        (clinic(models="digits"), "expected an array"),
        (clinic(models=["../digits"]), "policy.tenants[0].models"),
        (clinic(models=["*"]), "policy.tenants[0].models"),
        (clinic(models=["digits", "digits"]), "'digits' is given twice"),
        (clinic(rights=["infer", "infer"]), "'infer' is given twice"),
        (clinic(rights=["Infer"]), "got 'Infer'"),
        (clinic(rights=["admin"]), "got 'admin'"),
        (clinic(rights=None), "expected an array"),
        (clinic(certificates=[FINGERPRINT.upper()]), "policy.tenants[0].certificates"),
        (clinic(certificates=[FINGERPRINT] * 2), "is given twice"),
        (
            clinic(certificates=[FINGERPRINT] * (MAX_CREDENTIALS_PER_TENANT + 1)),
            f"at most {MAX_CREDENTIALS_PER_TENANT}",
        ),
        (quotas(requests_per_s=0), "requests_per_s: expected 1 to"),
        (quotas(requests_per_s=True), "expected a whole number"),
        (quotas(requests_per_s=1.5), "expected a whole number"),
        (quotas(bytes_per_s=-1), "bytes_per_s: expected 1 to"),
        (quotas(concurrent="8"), "expected a whole number"),
        (quotas(per_day=1), "unknown field(s) 'per_day'"),
        (lambda p: p["tenants"][0]["quotas"].pop("concurrent"), "'concurrent' is missing"),
        (token(id="0" * 15), "tokens[0].id"),
        (token(id="G" * 16), "tokens[0].id"),
        (token(salt=""), "tokens[0].salt: expected 16 bytes"),
        (token(salt="0" * 31), "tokens[0].salt: expected 16 bytes"),
        (token(sha256="AA" * 32), "tokens[0].sha256: expected 32 bytes"),
        (token(note="x" * 101), "note"),
        (token(secret="x"), "unknown field(s) 'secret'"),
    ],
)
def test_a_wrong_policy_is_refused_as_a_whole(change: Change, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_policy(changed(change))
    assert len(caught.value.problems) == 1
    assert said in str(caught.value)


def test_the_same_field_twice_is_refused() -> None:
    raw = json.dumps(POLICY).replace('"rights"', '"rights": [], "rights"', 1).encode()
    with pytest.raises(ConfigError, match="'rights' is given twice"):
        parse_policy(raw)


def test_the_problems_of_all_tenants_are_reported() -> None:
    def spoil(content: dict[str, Any]) -> None:
        for tenant in content["tenants"]:
            tenant.update(rights=["x"])

    with pytest.raises(ConfigError) as caught:
        parse_policy(changed(spoil))
    assert len(caught.value.problems) == 2


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "access.json"
    with pytest.raises(ConfigError, match=r"access\.json.*\n.*No such file"):
        read_policy(path)
    path.write_bytes(b" " * (MAX_POLICY_BYTES + 1))
    with pytest.raises(ConfigError, match=f"more than {MAX_POLICY_BYTES} bytes"):
        read_policy(path)
    path.write_text(json.dumps(POLICY))
    assert len(read_policy(path).tenants) == 2
