"""The steps with Occlum's own tools, which are played here: nobody has them on a test machine."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.tools.image.test_request import make_bundle
from tools.image import building
from tools.image.command import parser, request_of
from tools.image.instance import STATUS_FILE
from tools.image.request import BuildRequest
from tools.launcher import ROOT


class OcclumTools:
    """Notes what is started, and looks at what copy_bom would find."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.missing: list[str] = []

    def output_of(self, argv: Sequence[str | Path], _purpose: str, cwd: Path | None = None) -> str:
        words = [str(word) for word in argv]
        self.started.append(Path(words[0]).name)
        if words[1] == "new":
            folder = Path(words[2])
            folder.mkdir()
            (folder / STATUS_FILE).touch()
        elif words[0] == "copy_bom":
            assert cwd is not None
            self._copy(Path(words[words.index("-f") + 1]), cwd)
        else:
            assert cwd is not None
            (cwd / "build").mkdir()
            (cwd / "build" / "Enclave.xml").write_text("<xml/>")
        return ""

    def _copy(self, bom: Path, instance: Path) -> None:
        content: dict[str, Any] = yaml.safe_load(bom.read_text(encoding="utf-8"))
        for target in content["targets"]:
            for source in target.get("copy", ()):
                named = [*source.get("dirs", ()), *source.get("files", ())]
                names = named or [source["from"]]
                # It joins first, and fills in variables afterwards.
                paths = [os.path.expandvars(f"{instance}/{name}") for name in names]
                self.missing += [path for path in paths if not Path(path).exists()]


class NoOrigins:
    def __init__(self, _prefix: Path, _wheels: Path) -> None: ...

    def write(self, _instance: object) -> str:
        return "written"


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> OcclumTools:
    played = OcclumTools()
    monkeypatch.setattr(building, "BUILD", tmp_path / "far" / "away" / "build")
    monkeypatch.setattr(building, "real_occlum", lambda: Path("/usr/local/occlum/bin/occlum"))
    monkeypatch.setattr(building, "output_of", played.output_of)
    monkeypatch.setattr(building, "stage_python", lambda prefix, *_: prefix.mkdir(parents=True))
    monkeypatch.setattr(building, "checked_configuration", lambda *_, **__: None)
    monkeypatch.setattr(building, "glibc_problems", lambda _: [])
    monkeypatch.setattr(building, "Origins", NoOrigins)
    monkeypatch.setattr(BuildRequest, "check_served", lambda *_: None)
    monkeypatch.setenv(building.PYTHON_VARIABLE, "")
    return played


@pytest.mark.parametrize("place", ["out", "deep/er/out", "link/out"])
def test_copy_bom_finds_all_that_the_bom_names(
    tools: OcclumTools, tmp_path: Path, place: str
) -> None:
    output = tmp_path / "instances" / place
    (tmp_path / "instances" / "deep" / "er").mkdir(parents=True)
    (tmp_path / "instances" / "link").symlink_to("deep/er")
    owner = tmp_path / "owner.pub"
    owner.write_text(base64.b64encode(bytes(32)).decode())
    words = ["--bundle", str(make_bundle(tmp_path / "digits.bundle")), "--mode", "SIM"]
    words += ["--owner-public-key", str(owner), "-o", str(output)]
    words += ["--sign-key", str(tmp_path / "enclave.pem"), "--insecure-open-access"]
    building.build(request_of(parser().parse_args(words)))
    assert tools.started == ["occlum", "copy_bom", "occlum"]
    assert tools.missing == []
    assert not Path(os.environ[building.PYTHON_VARIABLE]).is_absolute()


def test_the_bom_has_no_path_of_a_machine() -> None:
    text = (ROOT / "occlum_image" / "bom.yaml").read_text(encoding="utf-8")
    content = yaml.safe_load(text)
    names = [
        name
        for target in content["targets"]
        for source in target.get("copy", ())
        for name in (*source.get("dirs", ()), *source.get("files", ()), source.get("from", ""))
    ]
    assert not [name for name in names if name.startswith("/")]
    assert set(re.findall(r"\$\{(\w+)\}", text)) == {building.PYTHON_VARIABLE}
