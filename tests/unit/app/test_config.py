from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from app.config import MAX_CONFIG_BYTES, TLS_LIBRARIES, Config, TlsFiles, read_config
from app.errors import ConfigError
from app.limits import MAX_BATCH, MAX_DELAY_US
from app.server.tls.libraries import LIBRARIES
from tests.property.test_hostile_bytes import CONFIG


def read(tmp_path: Path, change: dict[str, Any], root: Path = Path("/")) -> Config:
    path = tmp_path / "config.json"
    content = {name: value for name, value in (CONFIG | change).items() if value is not None}
    path.write_text(json.dumps(content))
    return read_config(path, root)


def model(**change: object) -> list[object]:
    owner = "A" * 43 + "="
    entry = {"id": "m", "bundle": "/b", "minimum_version": 1, "owner_public_key": owner, **change}
    return [{name: value for name, value in entry.items() if value is not None}]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 2}, "config.format"),
        ({"sgx_mode": "sim"}, "config.sgx_mode"),
        ({"models": []}, "at least one model"),
        ({"models": model(id="../m")}, "config.models\\[0\\].id"),
        ({"models": model(bundle="b")}, "expected an absolute path, got 'b'"),
        ({"models": model(bundle="/b\0")}, "holds a NUL"),
        ({"models": model(minimum_version=0)}, "minimum_version"),
        ({"models": model(owner_public_key="AAAA")}, "expected 32 bytes as base64"),
        ({"models": model(owner_public_key="!")}, "expected 32 bytes as base64"),
        ({"models": model(name="x")}, "unknown field"),
        ({"key_folder": None}, "got neither"),
        ({"insecure_key_folder": "/i"}, "got key_folder and insecure_key_folder"),
        ({"listen": {"host": "h", "port": 65536, "names": []}}, "port"),
        ({"models": model(bundle=None)}, "expected a 'bundle', as there is no 'bundle_folder'"),
        ({"models": model(tensor_batch=1)}, "tensor_batch"),
        ({"bundle_folder": "b"}, "expected an absolute path"),
        ({"max_batch": 0}, "max_batch"),
        ({"max_batch": MAX_BATCH + 1}, "max_batch"),
        ({"max_delay_us": -1}, "max_delay_us"),
        ({"max_delay_us": MAX_DELAY_US + 1}, "max_delay_us"),
        ({"workers": 0}, "workers"),
        ({"inference_threads": 65}, "inference_threads"),
        ({"tls": {"certificate": "/c"}}, "private_key"),
        ({"tls": {"certificate": "/c", "private_key": "p"}}, "absolute path"),
        ({"tls": {}}, "certificate"),
        ({"tls": {"client_ca": "ca"}}, "absolute path"),
        ({"tls": {"client_ca": "/ca", "private_key": "/p"}}, "'certificate' is missing"),
        ({"tls": {"client_ca": "/ca", "colour": "red"}}, "unknown field"),
        ({"tls_library": "OpenSSL"}, "expected 'mbedtls' or 'openssl', got"),
        ({"tls_library": None, "tls_libary": "openssl"}, "'tls_libary'"),
        ({"production": True}, "production needs 'HW'"),
        ({"access_policy": "access.json"}, "absolute path"),
        ({"access_policy": None, "insecure_open_access": 1}, "true or false"),
        ({"access_policy": "/a", "insecure_open_access": True}, "exclude each other"),
        ({"log_requests": 1}, "true or false"),
        ({"colour": "red"}, "'colour'"),
    ],
)
def test_configuration_that_is_wrong(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as error:
        read(tmp_path, change)
    assert len(error.value.problems) == 1


def test_a_model_from_the_bundle_folder(tmp_path: Path) -> None:
    config = read(tmp_path, {"models": model(bundle=None), "bundle_folder": "/host"}, tmp_path)
    assert config.bundle_folder == tmp_path / "host"
    assert config.models[0].bundle is None
    assert not config.models[0].tensor_batch, "exact unless asked otherwise"
    assert (config.max_batch, config.max_delay_us) == (8, 100_000)
    asked = {"models": model(tensor_batch=True), "max_batch": 1, "max_delay_us": 0}
    config = read(tmp_path, asked)
    assert (config.models[0].tensor_batch, config.max_batch, config.max_delay_us) == (True, 1, 0)


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        read(tmp_path, {"workers": 0, "sgx_mode": "x", "listen": [], "extra": 1, "models": {}})
    assert len(error.value.problems) == 5


def test_production_refuses_what_is_insecure(tmp_path: Path) -> None:
    insecure = {"key_folder": None, "insecure_key_folder": "/i", "sgx_mode": "HW"}
    with pytest.raises(ConfigError, match=r"config\.insecure_key_folder: refused in production"):
        read(tmp_path, {"production": True, **insecure})
    assert read(tmp_path, insecure).insecure_settings() == ("insecure_key_folder",)
    assert read(tmp_path, {"production": True, "sgx_mode": "HW"}).insecure_settings() == ()


def test_open_access_has_to_be_asked_for_and_production_refuses_it(tmp_path: Path) -> None:
    assert read(tmp_path, {}).insecure_open_access is False
    assert read(tmp_path, {}).access_policy is None
    is_open = {"insecure_open_access": True, "sgx_mode": "HW"}
    assert read(tmp_path, is_open).insecure_settings() == ("insecure_open_access",)
    with pytest.raises(ConfigError, match=r"config\.insecure_open_access: refused in production"):
        read(tmp_path, {"production": True, **is_open})
    policy = {"access_policy": "/etc/a.json", "insecure_open_access": False}
    assert read(tmp_path, policy, Path("/image")).access_policy == Path("/image/etc/a.json")
    assert read(tmp_path, {"production": True, "sgx_mode": "HW", **policy}).production


def test_paths_start_at_the_root_that_is_given(tmp_path: Path) -> None:
    config = read(tmp_path, {}, root=Path("/image"))
    assert config.models[0].bundle == Path("/image/b")
    assert config.key_folder == Path("/image/k")
    assert config.tls is not None
    assert config.tls.private_key == Path("/image/p")


def test_tls_files_are_optional(tmp_path: Path) -> None:
    config = read(tmp_path, {"tls": None})
    assert (config.tls, config.client_ca) == (None, None)
    config = read(tmp_path, {"tls": {"client_ca": "/ca"}})
    assert (config.tls, config.client_ca) == (None, Path("/ca"))
    every = {"certificate": "/c", "private_key": "/p", "client_ca": "/ca"}
    config = read(tmp_path, {"tls": every})
    assert (config.tls, config.client_ca) == (TlsFiles(Path("/c"), Path("/p")), Path("/ca"))


def test_the_tls_library_is_a_choice(tmp_path: Path) -> None:
    assert read(tmp_path, {}).tls_library == "mbedtls"
    assert {read(tmp_path, {"tls_library": name}).tls_library for name in LIBRARIES} == {
        *TLS_LIBRARIES
    }


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file"),
        (b"{", "not JSON"),
        (b"[]", "expected an object"),
        (b" " * (MAX_CONFIG_BYTES + 1), "more than"),
    ],
)
def test_file_that_is_no_configuration(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "config.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=said):
        read_config(path)
