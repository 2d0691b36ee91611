"""The real image in the stand-in's runtime, killed above and inside while it starts and answers."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.image.test_killed_run import until_gone
from tests.integration.appliance import DIGITS, Appliance, read_announcement
from tools.bench.packed import PackedModel, build_image
from tools.bench.process_tree import descendants
from tools.bench.subjects import encrypted
from tools.image.sandbox import sandbox_works
from tools.launcher import ROOT
from tools.model_folder import open_folder

pytestmark = pytest.mark.large

PICTURE = "digit-7-1.png"
VICTIMS = ("the command", "the app")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> PackedModel:
    assert sandbox_works(), "bubblewrap can't make its namespaces here"
    folder = tmp_path_factory.mktemp("killed")
    model = open_folder(DIGITS)
    return build_image(model, encrypted(model, folder / "bundle"), folder / "packed", threads=1)


@contextmanager
def started(image: PackedModel) -> Iterator[subprocess.Popen[str]]:
    """Runs the image; it is killed in the end, if it wasn't before."""
    assert shutil.which("occlum") in (None, str(ROOT / "tools" / "occlum"))
    command = [sys.executable, str(ROOT / "tools" / "occlum"), "run", "/bin/app"]
    with subprocess.Popen(
        command, cwd=image.instance, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def kill(process: subprocess.Popen[str], victim: str) -> None:
    """Kills the command or the innermost process; nobody of the family is left."""
    family = descendants(process.pid)
    os.kill(process.pid if victim == "the command" else family[-1], signal.SIGKILL)
    process.wait(60)
    until_gone(family)


def check(image: PackedModel, appliance: Appliance) -> int:
    """Classifies a sample; gives the port."""
    picture = DIGITS / "samples" / PICTURE
    answer = appliance.curl(f"/v1/models/{image.model}/classify", "--form", f"image=@{picture}")
    labels = json.loads((DIGITS / "samples" / "labels.json").read_text())
    assert answer.status == 200
    assert answer.body["labels"][0]["index"] == labels[PICTURE]
    return int(appliance.url.rpartition(":")[2])


@pytest.mark.parametrize("victim", VICTIMS)
def test_killed_while_it_answers(image: PackedModel, tmp_path: Path, victim: str) -> None:
    for _ in range(2):
        with started(image) as process:
            port = check(image, read_announcement(process, tmp_path))
            kill(process, victim)
        with socket.create_server(("127.0.0.1", port)):
            pass
    with started(image) as process:
        assert check(image, read_announcement(process, tmp_path)) == port


@pytest.mark.parametrize("victim", VICTIMS)
def test_killed_while_it_starts(image: PackedModel, tmp_path: Path, victim: str) -> None:
    rng = random.Random(len(victim))
    for _ in range(4):
        with started(image) as process:
            threading.Event().wait(rng.uniform(0.05, 1.5))
            kill(process, victim)
    with started(image) as process:
        check(image, read_announcement(process, tmp_path))
