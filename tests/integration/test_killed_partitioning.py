"""tools/partition.py killed at the worst moments: no half-written folder is ever taken for one."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from tests import folders, models
from tools.commands.partition import main
from tools.model_folder import changed_files, find_folders, open_folder

KILLED_PARTITIONING = """
import os, signal, sys
import tools.files, tools.model_folder
from tools.commands.partition import main

module, name, countdown = sys.argv[1:4]
place = {"files": tools.files, "folder": tools.model_folder}[module]
original, left = getattr(place, name), int(countdown)

def deadly(*arguments, **options):
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    return original(*arguments, **options)

setattr(place, name, deadly)
sys.exit(main(sys.argv[4:]))
"""

MOMENTS = {
    "before the first partition": ("folder", "write_partition", 0, False),
    "between partitions": ("folder", "write_partition", 2, True),
    "before it takes the old one's place": ("files", "_replace", 0, True),
    "after it has taken its place": ("files", "_sync", 8, True),
}
"""Module, function, how many calls of it are let through, and whether there is an old folder."""


def partition(source: Path, target: Path, count: int) -> list[str]:
    return [str(source), "-o", str(target), "--partitions", str(count), "--quiet"]


def test_kill(tmp_path: Path) -> None:
    source = models.save(models.residual(), tmp_path / "residual.onnx")
    children = {}
    for number, (moment, (module, name, countdown, there)) in enumerate(MOMENTS.items()):
        target = tmp_path / f"{number}" / "m"
        if there:
            assert main(partition(source, target, 2)) == 0
        words = [module, name, str(countdown), *partition(source, target, 4)]
        command = [sys.executable, "-c", KILLED_PARTITIONING, *words]
        children[moment] = (target, there, subprocess.Popen(command))
    for moment, (target, there, child) in children.items():
        assert child.wait(timeout=120) == -signal.SIGKILL, moment
        check_after_kill(target, there, moment)
        assert main(partition(source, target, 3)) == 0
        assert list(target.parent.iterdir()) == [target], f"{moment}: nothing is left beside it"
        assert changed_files(open_folder(target)) == []


def check_after_kill(target: Path, there: bool, moment: str) -> None:
    """The folder is the old one, the new one, or not there; never something between."""
    is_new = moment == "after it has taken its place"
    assert target.exists() == (there or is_new), moment
    if not target.exists():
        return
    assert find_folders(target.parent) == [target]
    folder = open_folder(target)
    assert changed_files(folder) == [], moment
    assert len(folder.plan.partitions) == (4 if is_new else 2), moment
    expected = {"model.onnx", "model.json", "plan.json"}
    assert set(folders.files(target)) - {p.file for p in folder.plan.partitions} == expected
