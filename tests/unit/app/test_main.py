"""The composition root, up to the moment where it would listen."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import app.__main__ as appliance
from app.config import TLS_LIBRARIES
from app.engine import VERSION
from tests import folders, models
from tests.host import Host, keep_process
from tests.policies import POLICY
from tests.unit.app.server.clients import identity
from tools.model_folder import ModelFolder


def test_start_says_what_it_is_and_what_is_insecure(host: Host, chain_bundle: Path) -> None:
    start = host.start(chain_bundle)
    assert start.status == 0
    lines = start.announced.splitlines()
    assert "SIMULATION (process): no SGX" in lines[0]
    assert lines[1] == "measurement none: no report of an enclave"
    assert lines[2] == "INSECURE: insecure_key_folder is set"
    assert lines[3] == "INSECURE: insecure_open_access is set"
    loaded = "4 partitions, every object authenticated, 4 of them kept in memory"
    assert f"model chain version 3: {loaded}" in lines
    assert "-----BEGIN CERTIFICATE-----" in lines
    assert "PRIVATE KEY" not in start.announced + start.said
    assert re.search(r"^fingerprint sha256 [0-9A-F:]{95}$", start.announced, re.MULTILINE)
    assert lines[-2:] == ["ready on 127.0.0.1 port 1", "stopped"]


def test_wrong_configuration_is_usage_and_lists_everything(host: Host, chain_bundle: Path) -> None:
    start = host.start(chain_bundle, change={"workers": 0, "budget_bytes": "85MiB"})
    assert start.status == 2
    assert start.said.count("\n  - config.") == 2
    assert start.loaded_nothing


def test_no_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_process(monkeypatch)
    assert appliance.main(["--config", str(tmp_path / "nothing.json")]) == 2
    assert "No such file" in capsys.readouterr().err


def test_model_configured_twice(host: Host, chain_bundle: Path) -> None:
    model = host.model(chain_bundle)
    start = host.start(chain_bundle, change={"models": [model, model]})
    assert start.status == 2
    assert "model 'chain' is configured twice" in start.said
    assert not start.listening


def test_budget_below_the_largest_partition(host: Host, chain_bundle: Path) -> None:
    start = host.start(chain_bundle, change={"budget_bytes": 5000})
    assert start.status == 1
    assert "the budget is 5000 bytes" in start.said
    assert start.loaded_nothing


def test_structures_of_another_onnxruntime(
    host: Host, chain_folder: ModelFolder, tmp_path: Path
) -> None:
    """Optimised structures fit one version; those that nothing was done to fit any."""
    optimised = folders.make_folder(
        models.chain(), tmp_path / "chain", count=2, optimization="extended"
    )
    bundle = folders.make_bundle(optimised, tmp_path / "b.bundle")
    assert host.start(bundle).status == 0
    folders.edit_manifest(bundle, lambda manifest: manifest.update(onnxruntime="0.1"))
    start = host.start(bundle)
    assert start.status == 1
    assert f"this image has {VERSION}" in start.said
    assert start.loaded_nothing
    plain = folders.make_bundle(chain_folder, tmp_path / "plain.bundle")
    folders.edit_manifest(plain, lambda manifest: manifest.update(onnxruntime="0.1"))
    assert host.start(plain).status == 0


def test_certificate_that_cannot_be_read(host: Host, chain_bundle: Path) -> None:
    files = {"certificate": "/nowhere/c.pem", "private_key": "/nowhere/k.pem"}
    start = host.start(chain_bundle, change={"tls": files})
    assert start.status == 2
    assert "/nowhere/c.pem" in start.said
    assert "/nowhere/k.pem" in start.said
    assert not start.listening


def test_who_may_ask_is_said_at_start(host: Host, chain_bundle: Path, tmp_path: Path) -> None:
    closed = host.start(chain_bundle, change={"insecure_open_access": False})
    assert closed.status == 0
    assert "no access policy: only health is served" in closed.announced.splitlines()
    path = tmp_path / "access.json"
    path.write_text(json.dumps(POLICY))
    change: dict[str, object] = {"insecure_open_access": False, "access_policy": str(path)}
    guarded = host.start(chain_bundle, change=change)
    assert guarded.status == 0
    assert "access policy: 2 tenants" in guarded.announced.splitlines()
    assert "insecure_open_access" not in guarded.announced


@pytest.mark.parametrize("text", ["", "{}", '{"format": 1, "tenants": [{"name": "x"}]}', None])
def test_a_broken_access_policy_is_not_no_policy(
    host: Host, chain_bundle: Path, tmp_path: Path, text: str | None
) -> None:
    path = tmp_path / "access.json"
    if text is not None:
        path.write_text(text)
    change: dict[str, object] = {"insecure_open_access": False, "access_policy": str(path)}
    start = host.start(chain_bundle, change=change)
    assert start.status == 2
    assert str(path) in start.said
    assert start.loaded_nothing


@pytest.mark.parametrize("library", TLS_LIBRARIES)
def test_clients_ca(host: Host, chain_bundle: Path, tmp_path: Path, library: str) -> None:
    trusted = tmp_path / "clients.crt"
    change = {"tls": {"client_ca": str(trusted)}, "tls_library": library}
    start = host.start(chain_bundle, change=change)
    assert start.status == 2
    assert str(trusted) in start.said
    assert not start.listening
    trusted.write_bytes(identity().certificate_pem)
    assert host.start(chain_bundle, change=change).status == 0


def test_paths_below_the_stand_in_root(
    host: Host, chain_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is no sandbox, the image's absolute paths start at another folder."""
    monkeypatch.setenv(appliance.ROOT_VARIABLE, str(chain_bundle.parent))
    inside = Path("/") / chain_bundle.name
    start = host.start(inside, change={"insecure_key_folder": "/keys"})
    assert start.status == 1
    assert str(chain_bundle.parent / "keys" / "chain.key") in start.said
