"""The container with Occlum's own tools is made of what is named by hash, or not at all."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.image.instances import WATCHDOG_S
from tools.launcher import ROOT

SCRIPT = ROOT / "occlum_image" / "docker.sh"
DIGEST = "sha256:" + "0f" * 32
ARCHIVE = "https://example.org/3.11.14/Python-3.11.14.tar.xz"
GOOD = ["--occlum-digest", DIGEST, "--python-url", ARCHIVE, "--python-sha256", "a1" * 32]
FAKE_DOCKER = '#!/bin/sh\nprintf "%s\\n" "$@" >"$(dirname "$0")/asked"\n'


def docker_sh(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the script with a docker that only notes what it was asked for."""
    docker = folder / "docker"
    docker.write_text(FAKE_DOCKER)
    docker.chmod(0o755)
    return subprocess.run(
        [SCRIPT, *arguments],
        env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=WATCHDOG_S,
        check=False,
    )


def test_what_is_named_by_hash_is_built(tmp_path: Path) -> None:
    assert docker_sh(tmp_path, *GOOD).returncode == 0
    asked = (tmp_path / "asked").read_text().splitlines()
    assert {f"OCCLUM_DIGEST={DIGEST}", f"PYTHON_URL={ARCHIVE}"} <= set(asked)


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        ("--occlum-digest", "0.31.0-ubuntu22.04", "expected 'sha256:'"),
        ("--occlum-digest", "", "got ''"),
        ("--occlum-digest", f"{DIGEST}0", "expected 'sha256:'"),
        ("--python-url", "https://example.org/Python-3.11.0rc1.tar.xz", "a final release"),
        ("--python-url", "https://example.org/Python-3.15.0b2.tar.xz", "a final release"),
        ("--python-url", "http://example.org/Python-3.11.14.tar.xz", "expected https"),
        ("--python-sha256", "a1", "64 hexadecimal digits"),
        ("--python-sha256", "", "64 hexadecimal digits"),
    ],
)
def test_what_is_not_is_refused(tmp_path: Path, option: str, value: str, reason: str) -> None:
    arguments = list(GOOD)
    arguments[arguments.index(option) + 1] = value
    ended = docker_sh(tmp_path, *arguments)
    assert ended.returncode == 2
    assert f"error: {option}" in ended.stderr
    assert reason in ended.stderr
    assert not (tmp_path / "asked").exists()


@pytest.mark.parametrize("left_out", range(0, len(GOOD), 2))
def test_every_argument_is_asked_for(tmp_path: Path, left_out: int) -> None:
    ended = docker_sh(tmp_path, *GOOD[:left_out], *GOOD[left_out + 2 :])
    assert ended.returncode == 2
    assert f"error: {GOOD[left_out]}" in ended.stderr
    assert not (tmp_path / "asked").exists()


@pytest.mark.parametrize("arguments", [["--occlum-digest"], ["--tag", "x"]])
def test_wrong_usage(tmp_path: Path, arguments: list[str]) -> None:
    assert docker_sh(tmp_path, *arguments).returncode == 2
    assert not (tmp_path / "asked").exists()


def test_the_base_is_named_by_digest_alone() -> None:
    text = (ROOT / "occlum_image" / "Dockerfile").read_text(encoding="utf-8")
    assert re.findall(r"^FROM .*$", text, re.MULTILINE) == ["FROM occlum/occlum@${OCCLUM_DIGEST}"]
    packages = re.findall(r"apt-get install [^&]*", text.replace("\\\n", " "))
    assert packages
    assert not any("python" in names for names in packages), "a distribution's may be a candidate"


def test_keys_and_models_are_not_sent_to_docker() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").split("\n")
    kept = {line[1:] for line in lines if line.startswith("!")}
    assert "*" in lines
    assert not kept & {"build", "partitions", "."}
    copied = re.findall(
        r"^COPY (.*) \S+$",
        (ROOT / "occlum_image" / "Dockerfile").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    assert {name for names in copied for name in names.split()} == kept
