"""An instance is started as a plain process and in the sandbox by turns; neither is in the way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.image.instances import TestInstance, path_without

LOOK = """
import os
root = os.environ.get('OCCLUM_STAND_IN_ROOT', '')
print(os.environ['OCCLUM_STAND_IN'], open(root + '/host/note').read(), end=' ')
open(root + '/host/note', 'a').write('+')
os.makedirs(root + '/etc/left/behind')
os.symlink('/nowhere', root + '/etc/left/link')
"""


@pytest.fixture
def shared(instance: TestInstance, tmp_path: Path) -> Path:
    """A host folder with one file, mounted at /host of a built instance."""
    folder = tmp_path / "shared"
    (folder / "kept").mkdir(parents=True)
    (folder / "note").write_text("seen")
    bom = instance.folder / "bom.yaml"
    bom.write_text(bom.read_text().replace("etc,", "etc, host,"))
    content = json.loads((instance.folder / "Occlum.json").read_text())
    mount = {"target": "/host", "type": "hostfs", "source": str(folder)}
    instance.configure(mount=[*content["mount"], mount])
    done = instance.build()
    assert done.status == 0, done.err
    return folder


@pytest.mark.usefixtures("sandbox")
@pytest.mark.parametrize("ways", ["ps", "sp", "psps", "ppss"])
def test_a_start_of_one_kind_leaves_nothing_in_the_way_of_the_other(
    instance: TestInstance, shared: Path, tmp_path: Path, ways: str
) -> None:
    path = path_without(tmp_path / "path", "bwrap")
    for number, way in enumerate(ways):
        done = instance.probe(LOOK, env={"PATH": path} if way == "p" else None)
        assert done.status == 0, done.err
        kind = {"p": "process", "s": "sandbox"}[way]
        assert done.out == f"{kind} seen{'+' * number} "
    assert (shared / "kept").is_dir()
    assert (shared / "note").read_text() == f"seen{'+' * len(ways)}"


@pytest.mark.usefixtures("sandbox")
def test_a_link_that_a_plain_process_left_is_not_followed_by_the_next_start(
    instance: TestInstance, shared: Path, tmp_path: Path
) -> None:
    """A program replaces a folder of its root by a link to a folder of the host."""
    target = tmp_path / "of_the_host"
    target.mkdir()
    (target / "hosts").write_text("mine")
    swap = (
        "import os, shutil; root = os.environ['OCCLUM_STAND_IN_ROOT']; "
        f"shutil.rmtree(root + '/etc'); os.symlink({str(target)!r}, root + '/etc'); print('left')"
    )
    path = path_without(tmp_path / "path", "bwrap")
    assert instance.probe(swap, env={"PATH": path}).out == "left\n"
    for env in ({"PATH": path}, None):
        assert instance.probe("print('ran')", env=env).out == "ran\n"
    assert (target / "hosts").read_text() == "mine"
    assert [entry.name for entry in target.iterdir()] == ["hosts"]
