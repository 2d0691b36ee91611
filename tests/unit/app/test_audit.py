"""What the appliance says of itself, and what production refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import app.config
from app.audit import Audit, audit
from app.config import Config, read_config
from app.errors import ConfigError
from app.runtime import Runtime
from tests.host import Host
from tests.property.test_hostile_bytes import CONFIG, MODEL

NAMES = sorted(set(re.findall(r'"(insecure_\w+)"', Path(app.config.__file__).read_text("utf-8"))))
"""Every insecure setting that the configuration's reader knows."""

INSECURE: dict[str, dict[str, Any]] = {
    "insecure_bundle_format_1": {"models": [{**MODEL, "insecure_bundle_format_1": True}]},
    "insecure_key_folder": {"key_folder": None, "insecure_key_folder": "/i"},
    "insecure_open_access": {"insecure_open_access": True},
    "insecure_tls_private_key": {"tls": {"certificate": "/c", "private_key": "/host/k"}},
}
"""For each of them a change that sets it."""

SIMULATIONS = [each for each in Runtime if each.is_simulation]


def read(tmp_path: Path, change: dict[str, Any], root: Path = Path("/")) -> Config:
    path = tmp_path / "config.json"
    content = {name: value for name, value in (CONFIG | change).items() if value is not None}
    path.write_text(json.dumps(content))
    return read_config(path, root)


def test_every_insecure_setting_is_tried_here() -> None:
    assert sorted(INSECURE) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_insecure_setting_is_listed_and_production_refuses_it(tmp_path: Path, name: str) -> None:
    found = audit(read(tmp_path, INSECURE[name]), Runtime.OCCLUM_HARDWARE)
    assert found.insecure_settings == (name,)
    assert f"INSECURE: {name} is set" in found.banner
    assert found.describe()["insecure_settings"] == [name]
    with pytest.raises(ConfigError, match=f"{name}: refused in production"):
        read(tmp_path, {**INSECURE[name], "production": True, "sgx_mode": "HW"})


@pytest.mark.parametrize(
    ("place", "is_the_hosts"),
    [
        ("/host/tls/key.pem", True),
        ("/bundles/key.pem", True),
        ("/etc/../host/key.pem", True),
        ("/link/key.pem", True),
        ("/hostile/key.pem", False),
        ("/etc/key.pem", False),
        ("/run/keys/key.pem", False),
    ],
)
def test_private_key_in_a_folder_of_the_host_is_insecure(
    tmp_path: Path, place: str, is_the_hosts: bool
) -> None:
    """By whatever name: the host reads what lies there."""
    (tmp_path / "host").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "host")
    tls = {"certificate": "/host/c.pem", "private_key": place}
    change = {"tls": tls, "bundle_folder": "/bundles", "key_folder": "/run/keys"}
    found = read(tmp_path, change, tmp_path).insecure_settings()
    assert found == (("insecure_tls_private_key",) if is_the_hosts else ())


def test_private_key_behind_a_link_that_goes_round_is_judged_by_its_place(tmp_path: Path) -> None:
    """Reading it says what is wrong; the host can't end the start-up in another way."""
    (tmp_path / "host").mkdir()
    (tmp_path / "host" / "k.pem").symlink_to(tmp_path / "host" / "k.pem")
    tls = {"certificate": "/host/c.pem", "private_key": "/host/k.pem"}
    found = read(tmp_path, {"tls": tls}, tmp_path).insecure_settings()
    assert found == ("insecure_tls_private_key",)


def test_private_key_among_insecure_keys_is_insecure(tmp_path: Path) -> None:
    tls = {"certificate": "/c.pem", "private_key": "/i/k.pem"}
    found = read(tmp_path, {**INSECURE["insecure_key_folder"], "tls": tls})
    assert set(found.insecure_settings()) == {"insecure_key_folder", "insecure_tls_private_key"}


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
    keys = {"insecure_key_folder": None, "key_folder": str(host.folder / "keys")}
    secure = {"sgx_mode": "HW", "insecure_open_access": False, **keys}
    assert host.start(chain_bundle, change=secure).status == 0
    start = host.start(chain_bundle, change={**secure, "production": True})
    assert start.status == 2
    assert "runtime 'process' is a simulation: refused in production" in start.said
    assert start.loaded_nothing
