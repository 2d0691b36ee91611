"""Tiny instances: a Python prefix without packages and one program that runs what it is told."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tools.image.interpreter import install_interpreter
from tools.image.python_prefix import copy_standard_library
from tools.launcher import ROOT

WATCHDOG_S = 120
PROBE = """\
#!/opt/python-occlum/bin/python3
import sys
exec(compile(sys.argv[1], "probe", "exec"))
"""
BOM = """\
targets:
  - target: /
    mkdirs: [bin, dev, etc, lib, lib64, opt, proc, root, run, sys, tmp]
  - target: /opt
    copy:
      - dirs: [stage/python-occlum]
  - target: /bin
    copy:
      - files: [stage/probe]
"""


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int
    out: str
    err: str


@dataclass(frozen=True)
class TestInstance:
    """One instance folder and the key that signs it."""

    __test__ = False
    folder: Path
    sign_key: Path

    def occlum(self, *arguments: str, env: Mapping[str, str] | None = None) -> Ended:
        """Runs the stand-in in the instance folder."""
        return occlum(self.folder, *arguments, env=env)

    def build(self, *arguments: str) -> Ended:
        """Builds with the tests' key in simulation mode."""
        key = str(self.sign_key)
        return self.occlum("build", "--sign-key", key, "--sgx-mode", "SIM", *arguments)

    def probe(self, code: str, env: Mapping[str, str] | None = None) -> Ended:
        """Runs Python code in the image."""
        return self.occlum("run", "/bin/probe", code, env=env)

    def configure(self, **changes: object) -> None:
        """Replaces values in Occlum.json; `a__b` names b inside a."""
        path = self.folder / "Occlum.json"
        content = json.loads(path.read_text())
        for name, value in changes.items():
            *sections, key = name.split("__")
            place = content
            for section in sections:
                place = place[section]
            place[key] = value
        path.write_text(json.dumps(content))


def occlum(folder: Path, *arguments: str, env: Mapping[str, str] | None = None) -> Ended:
    """Runs the stand-in in a folder."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "occlum"), *arguments],
        cwd=folder,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=WATCHDOG_S,
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def make_prefix(folder: Path) -> Path:
    """Stages the interpreter and its standard library alone."""
    prefix = folder / "python-occlum"
    install_interpreter(prefix)
    copy_standard_library(prefix)
    return prefix


def make_instance(folder: Path, prefix: Path, sign_key: Path) -> TestInstance:
    """Makes an instance that isn't built yet; the prefix is shared, not copied."""
    assert occlum(folder.parent, "new", str(folder)).status == 0
    stage = folder / "stage"
    stage.mkdir()
    (stage / "probe").write_text(PROBE)
    (stage / "probe").chmod(0o755)
    (folder / "bom.yaml").write_text(BOM.replace("stage/python-occlum", str(prefix)))
    return TestInstance(folder, sign_key)


def path_without(folder: Path, *missing: str) -> str:
    """A PATH on which some commands are missing."""
    folder.mkdir()
    for name in ("sh", "prlimit", "unshare", "mount", "ldconfig", "bwrap", "env", "setpriv"):
        found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        if name not in missing and found is not None:
            (folder / name).symlink_to(found)
    return str(folder)
