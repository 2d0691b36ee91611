"""What the appliance says of itself, and what production refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from app.audit import Audit, audit
from app.config import Config, read_config
from app.errors import ConfigError
from app.runtime import Runtime
from tests.host import Host
from tests.property.test_hostile_bytes import CONFIG, MODEL

INSECURE: dict[str, dict[str, Any]] = {
    "insecure_bundle_format_1": {"models": [{**MODEL, "insecure_bundle_format_1": True}]},
    "insecure_key_folder": {"key_folder": None, "insecure_key_folder": "/i"},
    "insecure_open_access": {"insecure_open_access": True},
    "insecure_access_policy": {"access_policy": "/host/access.json"},
    "insecure_tls_private_key": {"tls": {"certificate": "/c", "private_key": "/host/k"}},
    "insecure_tls_certificate": {"tls": {"certificate": "/host/c", "private_key": "/k"}},
    "insecure_tls_client_ca": {"tls": {"client_ca": "/host/ca"}},
}
"""Every insecure setting, each with a change that sets it."""

SIMULATIONS = [each for each in Runtime if each.is_simulation]


def read(tmp_path: Path, change: dict[str, Any], root: Path = Path("/")) -> Config:
    path = tmp_path / "config.json"
    content = {name: value for name, value in (CONFIG | change).items() if value is not None}
    path.write_text(json.dumps(content))
    return read_config(path, root)


@pytest.mark.parametrize("name", sorted(INSECURE))
def test_insecure_setting_is_listed_and_production_refuses_it(tmp_path: Path, name: str) -> None:
    found = audit(read(tmp_path, INSECURE[name]), Runtime.OCCLUM_HARDWARE)
    assert found.insecure_settings == (name,)
    assert f"INSECURE: {name} is set" in found.banner
    assert found.describe()["insecure_settings"] == [name]
    with pytest.raises(ConfigError, match=f"{name}: refused in production"):
        read(tmp_path, {**INSECURE[name], "production": True, "sgx_mode": "HW"})


def test_what_the_hardware_lacks_is_said_and_production_refuses_it(tmp_path: Path) -> None:
    lacks = {"insecure_table_driven_aes": "on tables", "insecure_cpu_class": "of another class"}
    found = audit(read(tmp_path, {}), Runtime.OCCLUM_HARDWARE, hardware=lacks)
    assert found.insecure_settings == (*lacks,)
    assert all(f"INSECURE: {name} is set" in found.banner for name in lacks)
    config = read(tmp_path, {"production": True, "sgx_mode": "HW"})
    with pytest.raises(ConfigError) as refused:
        audit(config, Runtime.OCCLUM_HARDWARE, hardware=lacks)
    assert list(refused.value.problems) == [
        f"{name}: refused in production: {what}" for name, what in lacks.items()
    ]


@pytest.mark.parametrize("runtime", SIMULATIONS)
def test_production_does_not_start_where_the_host_can_read(
    tmp_path: Path, runtime: Runtime
) -> None:
    """The configuration may say "HW" as it likes."""
    config = read(tmp_path, {"production": True, "sgx_mode": "HW"})
    with pytest.raises(ConfigError, match=f"'{runtime.value}' is a simulation"):
        audit(config, runtime)


def test_production_in_an_enclave(tmp_path: Path) -> None:
    config = read(tmp_path, {"production": True, "sgx_mode": "HW"})
    found = audit(config, Runtime.OCCLUM_HARDWARE, "ab" * 32)
    assert found.describe() == {
        "runtime": "occlum-hw",
        "simulation": False,
        "measurement": "ab" * 32,
        "production": True,
        "insecure_settings": [],
    }
    assert f"measurement {'ab' * 32}" in found.banner
    assert not [line for line in found.banner if "INSECURE" in line or "SIMULATION" in line]


@pytest.mark.parametrize("runtime", SIMULATIONS)
def test_simulation_is_said_and_has_no_measurement(runtime: Runtime) -> None:
    found = Audit(runtime)
    assert "SIMULATION" in found.banner[0]
    assert (found.describe()["simulation"], found.describe()["measurement"]) == (True, None)


def test_production_outside_of_an_enclave_opens_nothing(host: Host, chain_bundle: Path) -> None:
    secure: dict[str, object] = {
        "sgx_mode": "HW",
        "insecure_open_access": False,
        "host_mounts": [],
        "insecure_key_folder": None,
        "key_folder": str(host.folder / "keys"),
    }
    assert host.start(chain_bundle, change=secure).status == 0
    start = host.start(chain_bundle, change={**secure, "production": True})
    assert start.status == 2
    assert "runtime 'process' is a simulation: refused in production" in start.said
    assert start.loaded_nothing
