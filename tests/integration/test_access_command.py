"""tools/access.py and what the appliance makes of it, in process."""

from __future__ import annotations

import datetime
import json
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from app.access.admission import Gate, Pass, Refusal
from app.access.policy import Quotas, read_policy
from app.server.certificate import make_identity
from tests.policies import head
from tools.commands.access import main


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """A policy with one tenant."""
    path = tmp_path / "access.json"
    assert main(["add-tenant", str(path), "clinic", "--model", "digits"]) == 0
    return path


def add_token(policy: Path, name: str = "t.token", tenant: str = "clinic") -> str:
    file = policy.parent / name
    assert main(["add-token", str(policy), tenant, "--note", "ward 3", "-o", str(file)]) == 0
    return file.read_text(encoding="ascii").strip()


def admitted(policy: Path, token: str | None, fingerprint: str | None = None) -> Pass | Refusal:
    return Gate(read_policy(policy)).admit(head(token), fingerprint, 0.0)


def test_a_tenant_with_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "new" / "access.json"
    options = ["--all-models", "--right", "infer", "--right", "manage"]
    quotas = ["--requests-per-s", "50", "--bytes-per-s", "10MiB", "--concurrent", "8"]
    assert main(["add-tenant", str(path), "clinic", *options, *quotas]) == 0
    (found,) = read_policy(path).tenants
    assert found.models is None
    assert found.rights == {"infer", "manage"}
    assert found.quotas == Quotas(50, 10 << 20, 8)
    assert main(["list", str(path)]) == 0
    shown = capsys.readouterr().out
    quotas_shown = "50 requests/s, 10.0 MiB/s, 8 at a time"
    assert f"clinic: all models; may infer, manage; {quotas_shown}\n" in shown


def test_a_token_opens_until_it_is_revoked(
    policy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = add_token(policy, "a"), add_token(policy, "b")
    capsys.readouterr()
    assert main(["list", str(policy)]) == 0
    shown = capsys.readouterr().out
    for token in (first, second):
        assert isinstance(admitted(policy, token), Pass)
        assert f"token {token.split('_')[1]} ward 3" in shown
        assert token.split("_", 2)[2] not in shown + policy.read_text()
    assert main(["revoke", str(policy), first.split("_")[1]]) == 0
    refusal = admitted(policy, first)
    assert isinstance(refusal, Refusal)
    assert refusal.status == 401
    assert isinstance(admitted(policy, second), Pass)


def test_a_token_is_written_once_and_shown_nowhere(
    policy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    token = add_token(policy)
    file = policy.parent / "t.token"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    before = policy.read_bytes()
    assert main(["add-token", str(policy), "clinic", "-o", str(file)]) == 2
    captured = capsys.readouterr()
    assert "never overwritten" in captured.err
    assert token not in captured.out + captured.err
    assert (file.read_text().strip(), policy.read_bytes()) == (token, before)


@pytest.mark.parametrize("form", ["pem", "der"])
def test_a_certificate_opens_until_it_is_revoked(
    policy: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    now = datetime.datetime.now(datetime.UTC)
    names = ["localhost"]
    made = make_identity("c", "t", dns_names=names, addresses=[], valid_days=1, now=now)
    fingerprint = made.fingerprint.removeprefix("sha256 ").replace(":", "").lower()
    file = policy.parent / "client.cert"
    pem = made.certificate_pem
    file.write_bytes(pem if form == "pem" else as_der(pem))
    assert main(["add-certificate", str(policy), "clinic", str(file)]) == 0
    assert fingerprint in capsys.readouterr().out
    assert isinstance(admitted(policy, None, fingerprint), Pass)
    assert main(["add-certificate", str(policy), "clinic", str(file)]) == 2
    assert "is given twice" in capsys.readouterr().err
    assert main(["revoke", str(policy), fingerprint.upper()]) == 0
    assert isinstance(admitted(policy, None, fingerprint), Refusal)


def as_der(pem: bytes) -> bytes:
    return x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["add-tenant", "POLICY", "clinic", "--all-models"], "'clinic' is given twice"),
        (["add-tenant", "POLICY", "Bank", "--all-models"], "name: expected"),
        (["add-tenant", "POLICY", "bank", "--model", "../x"], "models: expected"),
        (["add-tenant", "POLICY", "bank", "--all-models", "--concurrent", "0"], "concurrent"),
        (["add-token", "POLICY", "bank", "-o", "FILE"], "no tenant 'bank'; there are: clinic"),
        (["add-token", "POLICY", "clinic", "--note", "x" * 101, "-o", "FILE"], "note"),
        (["add-certificate", "POLICY", "clinic", "FILE"], "No such file"),
        (["add-certificate", "POLICY", "clinic", "POLICY"], "holds no certificate"),
        (["remove-tenant", "POLICY", "bank"], "no tenant 'bank'"),
        (["revoke", "POLICY", "0" * 16], "no tenant has this credential"),
        (["list", "FILE"], "No such file"),
    ],
)
def test_what_cannot_be_done_changes_nothing(
    policy: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in policy.parent.iterdir()}
    places = {"POLICY": str(policy), "FILE": str(policy.parent / "file")}
    assert main([places.get(each, each) for each in arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert said in error
    assert {path: path.read_bytes() for path in policy.parent.iterdir()} == before


def test_a_whole_token_given_to_revoke_is_not_repeated(
    policy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    token = add_token(policy)
    assert main(["revoke", str(policy), token]) == 2
    assert token not in capsys.readouterr().err


def test_a_removed_tenant_is_gone_with_its_tokens(policy: Path) -> None:
    token = add_token(policy)
    assert main(["remove-tenant", str(policy), "clinic"]) == 0
    assert json.loads(policy.read_text()) == {"format": 1, "tenants": []}
    assert isinstance(admitted(policy, token), Refusal)


def test_a_file_that_is_no_policy_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "access.json"
    path.write_text('{"format": 1, "tenants": [], "colour": "red"}')
    assert main(["add-tenant", str(path), "clinic", "--all-models"]) == 2
    assert "'colour'" in capsys.readouterr().err
    assert "red" in path.read_text()
