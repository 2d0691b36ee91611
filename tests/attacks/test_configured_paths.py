"""The host writes what the appliance decides by, through whatever path the configuration has.

It fills the folders that are mounted, and a few places besides. A file there that says who may
ask, which key is used or whom to trust is the host's word: the audit names it, and production
doesn't start. Bundles may lie there, as each object of them is authenticated.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.audit import audit
from app.config import Config, read_config
from app.errors import ConfigError
from app.runtime import Runtime
from tests.property.test_hostile_bytes import CONFIG

FIELDS: dict[str, Callable[[str], dict[str, Any]]] = {
    "insecure_access_policy": lambda place: {"access_policy": place},
    "insecure_key_folder": lambda place: {"key_folder": place},
    "insecure_tls_client_ca": lambda place: {"tls": {"client_ca": place}},
    "insecure_tls_certificate": lambda place: {"tls": {"certificate": place, "private_key": "/k"}},
    "insecure_tls_private_key": lambda place: {"tls": {"certificate": "/c", "private_key": place}},
}
"""Every file that decides something, and a change that places it."""

MOUNTS = ("/mnt/data", "/run/secrets")

PLACES = {
    "a mount": "/mnt/data/f",
    "another mount": "/run/secrets/deep/er/f",
    "the mount itself": "/mnt/data",
    "the usual mount": "/host/f",
    "by two dots": "/etc/../mnt/data/f",
    "by dots and slashes": "/etc//./../mnt/./data//f",
    "a link to a mount": "/etc/link/f",
    "a link inside of a mount that leads out": "/mnt/data/out/f",
    "a link to a link inside of a mount": "/etc/through/f",
    "a link up and down": "/etc/relative/f",
    "a link that goes round": "/etc/round/f",
    "standard input": "/dev/stdin",
    "a descriptor": "/proc/self/fd/0",
    "a file of the host's that Occlum copies": "/etc/hostname",
    "a link to such a file": "/etc/alias",
}
"""What the host fills, by names that hide it."""

OURS = ("/etc/f", "/mnt/database/f", "/run/keys", "/hosts/f", "/etc/own/f", "/etc/hosts.d/f")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An image's root file system."""
    root = tmp_path / "root"
    for folder in ("etc", "mnt/data", "mnt/database", "run/secrets", "opt/files"):
        (root / folder).mkdir(parents=True)
    for link, target in {
        "etc/link": root / "mnt/data",
        "etc/own": root / "opt/files",
        "etc/relative": Path("../opt/../mnt/data"),
        "etc/through": root / "mnt/data/out",
        "mnt/data/out": root / "opt/files",
        "etc/round": Path("round"),
        "etc/alias": Path("hosts"),
    }.items():
        (root / link).symlink_to(target)
    return root


def read(root: Path, change: dict[str, Any]) -> Config:
    path = root / "config.json"
    content = {**CONFIG, "host_mounts": list(MOUNTS), "tls": None, **change}
    given = {name: value for name, value in content.items() if value is not None}
    path.write_text(json.dumps(given))
    return read_config(path, root)


@pytest.mark.parametrize("place", sorted(PLACES))
@pytest.mark.parametrize("setting", sorted(FIELDS))
def test_what_the_host_fills_is_named_and_refused(root: Path, setting: str, place: str) -> None:
    change = FIELDS[setting](PLACES[place])
    found = audit(read(root, change), Runtime.OCCLUM_HARDWARE)
    assert found.describe()["insecure_settings"] == [setting]
    with pytest.raises(ConfigError, match=f"{setting}: refused in production"):
        read(root, {**change, "production": True, "sgx_mode": "HW"})


@pytest.mark.parametrize("place", OURS)
@pytest.mark.parametrize("setting", sorted(FIELDS))
def test_what_the_image_holds_is_not(root: Path, setting: str, place: str) -> None:
    change = {**FIELDS[setting](place), "production": True, "sgx_mode": "HW"}
    assert read(root, change).insecure_settings() == ()


def test_a_hostile_configuration_lists_all_that_it_takes_from_the_host(root: Path) -> None:
    tls = {"certificate": "/run/secrets/c", "private_key": "/run/secrets/k", "client_ca": "/host/a"}
    change = {"access_policy": "/host/p", "key_folder": "/host/keys", "tls": tls}
    with pytest.raises(ConfigError) as refused:
        read(root, {**change, "production": True, "sgx_mode": "HW"})
    said = {problem.split(":")[0] for problem in refused.value.problems}
    assert said == {f"config.{name}" for name in FIELDS}


def test_bundles_may_lie_where_the_host_writes(root: Path) -> None:
    model = {**CONFIG["models"][0], "bundle": "/mnt/data/m.bundle"}  # type: ignore[index]
    change = {"bundle_folder": "/host", "models": [model], "production": True, "sgx_mode": "HW"}
    assert read(root, change).insecure_settings() == ()


def test_production_has_to_know_the_mounts(root: Path) -> None:
    secure = {"production": True, "sgx_mode": "HW"}
    with pytest.raises(ConfigError, match=r"config\.host_mounts: production needs to know"):
        read(root, {**secure, "host_mounts": None})
    assert read(root, {**secure, "host_mounts": ["/host"]}).production


@pytest.mark.parametrize("mounts", ["/host", ["host"], [1], [None], {"a": 1}])
def test_mounts_that_are_none(root: Path, mounts: object) -> None:
    with pytest.raises(ConfigError, match="host_mounts"):
        read(root, {"host_mounts": mounts})
