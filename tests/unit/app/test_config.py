from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from app.config import MAX_CONFIG_BYTES, Config, read_config
from app.errors import ConfigError
from tests.property.test_hostile_bytes import CONFIG


def read(tmp_path: Path, change: dict[str, Any], root: Path = Path("/")) -> Config:
    path = tmp_path / "config.json"
    content = {name: value for name, value in (CONFIG | change).items() if value is not None}
    path.write_text(json.dumps(content))
    return read_config(path, root)


def model(**change: object) -> list[object]:
    owner = "A" * 43 + "="
    return [{"id": "m", "bundle": "/b", "minimum_version": 1, "owner_public_key": owner, **change}]


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
        ({"workers": 0}, "workers"),
        ({"inference_threads": 65}, "inference_threads"),
        ({"tls": {"certificate": "/c"}}, "private_key"),
        ({"tls": {"certificate": "/c", "private_key": "p"}}, "absolute path"),
        ({"production": True}, "production needs 'HW'"),
        ({"colour": "red"}, "'colour'"),
    ],
)
def test_configuration_that_is_wrong(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as error:
        read(tmp_path, change)
    assert len(error.value.problems) == 1


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


def test_paths_start_at_the_root_that_is_given(tmp_path: Path) -> None:
    config = read(tmp_path, {}, root=Path("/image"))
    assert config.models[0].bundle == Path("/image/b")
    assert config.key_folder == Path("/image/k")
    assert config.tls is not None
    assert config.tls.private_key == Path("/image/p")


def test_tls_files_are_optional(tmp_path: Path) -> None:
    assert read(tmp_path, {"tls": None}).tls is None


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
