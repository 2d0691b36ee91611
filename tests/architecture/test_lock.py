"""What CI installs: the locked packages, and those of Debian."""

from __future__ import annotations

import re
import subprocess
import tomllib

import pytest

from tests.architecture.imports import ROOT

EXTRAS = ("tools", "test", "fuzz", "browser", "check")
"""All but `training`, which is installed by hand."""

LOCKED = re.compile(r"^([a-z0-9-]+)==(\S+) ", re.MULTILINE)
NAMED = re.compile(r"^([A-Za-z0-9-]+)(?:\[[a-z,]+\])?(?:==(\S+))?$")


@pytest.mark.parametrize("extra", EXTRAS)
def test_every_package_of_an_extra_is_locked(extra: str) -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    locked = dict(LOCKED.findall((ROOT / "requirements.lock").read_text(encoding="utf-8")))
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
