"""What CI installs: the locked packages, and those of Debian."""

from __future__ import annotations

import re
import subprocess
import tomllib

import pytest

from tests.architecture.imports import ROOT

LOCKS = {
    "requirements.lock": ("tools", "test", "check"),
    "ci/requirements.lock": ("fuzz", "browser"),
}
"""All extras but `training`, which is installed by hand."""

LOCKED = re.compile(r"^([a-z0-9-]+)==(\S+) ", re.MULTILINE)
NAMED = re.compile(r"^([A-Za-z0-9-]+)(?:\[[a-z,]+\])?(?:==(\S+))?$")


@pytest.mark.parametrize(
    ("lock", "extra"), [(lock, extra) for lock, extras in LOCKS.items() for extra in extras]
)
def test_every_package_of_an_extra_is_locked(lock: str, extra: str) -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    locked = dict(LOCKED.findall((ROOT / lock).read_text(encoding="utf-8")))
    for requirement in tomllib.loads(text)["project"]["optional-dependencies"][extra]:
        found = NAMED.match(requirement)
        assert found, requirement
        name, version = found.groups()
        assert locked[name.lower()] == (version or locked[name.lower()])


@pytest.mark.parametrize("options", [["--instal"], ["--browser", "chromium"]])
def test_an_unknown_option_installs_nothing(options: list[str]) -> None:
    ended = subprocess.run(
        [str(ROOT / "ci" / "packages.sh"), *options], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert f"got '{options[-1]}'" in ended.stderr


def test_what_resolves_the_locks_is_locked_itself() -> None:
    locked = dict(LOCKED.findall((ROOT / "ci" / "lock-tools.lock").read_text(encoding="utf-8")))
    lines = (ROOT / "ci" / "lock-tools.in").read_text(encoding="utf-8").splitlines()
    wanted = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert {name: locked[name] for name in wanted} == wanted
    backend = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]
    assert backend["requires"] == [f"hatchling=={wanted['hatchling']}"]


def test_scripts_install_nothing_that_has_no_hash() -> None:
    scripts = [ROOT / ".ci" / "run", ROOT / "Makefile", ROOT / "occlum_image" / "Dockerfile"]
    scripts += [*(ROOT / "ci").glob("*.sh"), *(ROOT / "occlum_image").glob("*.sh")]
    installing = [
        (path.name, line)
        for path in scripts
        for line in path.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
        if re.search(r"\bpip\S*\s.*\binstall\b", line)
    ]
    assert {name for name, _ in installing} == {"setup.sh", "lock.sh"}
    assert all("--require-hashes" in line for _, line in installing), installing


def test_locks_agree() -> None:
    """Installing one after the other changes no version."""
    host, extras = (
        dict(LOCKED.findall((ROOT / lock).read_text(encoding="utf-8"))) for lock in LOCKS
    )
    assert {name: host[name] for name in extras if name in host} == {
        name: version for name, version in extras.items() if name in host
    }
