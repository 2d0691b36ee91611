"""tools/benchmark.py tenants and attacks, on an appliance that runs as a plain process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.appliance import prepare, running
from tools.bench.attackers import ALWAYS_RIGHT
from tools.bench.client import Endpoint
from tools.bench.packed import PackedModel
from tools.bench.results import Result, read_result
from tools.commands.benchmark import main
from tools.image.appliance import RunningImage
from tools.model_folder import ModelFolder
from tools.serving_client import Trust


def build(
    folder: ModelFolder, bundle: Path, target: Path, threads: int, *, access_policy: Path
) -> PackedModel:
    """Prepares a process in the place of an image."""
    assert threads == 1
    assert bundle.is_dir()
    target.mkdir()
    prepare(target, insecure_open_access=False, access_policy=str(access_policy))
    return PackedModel(target, folder.model_id, ())


@contextmanager
def serving(packed: PackedModel, log: Path) -> Iterator[tuple[RunningImage, Endpoint]]:
    """Runs the process; whose memory is counted doesn't matter here."""
    assert log.parent.is_dir()
    with running(packed.instance / "config.json") as appliance:
        pem = appliance.certificate.read_text()
        port = int(appliance.url.rpartition(":")[2])
        endpoint = Endpoint(appliance.url, Trust(ca_text=pem))
        yield RunningImage(port, pem, os.getpid()), endpoint


@pytest.fixture(autouse=True)
def process_in_place_of_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.bench.rivals.build_image", build)
    monkeypatch.setattr("tools.bench.tenants.serving", serving)
    monkeypatch.setattr("tools.bench.attacks.serving", serving)
    monkeypatch.setattr("tools.bench.attacks.WARM_S", 0.05)
    monkeypatch.setattr("tools.commands.benchmark.hostile.SCRATCH", tmp_path / "scratch")


def measured(folder: Path, *words: str) -> Result:
    """Runs a subcommand and reads what it wrote."""
    short = ("--rounds", "1", "--seconds", "0.2", "--quiet", "-o", str(folder / "results"))
    assert main([*words, *short]) == 0
    (path,) = (folder / "results").glob("*.json")
    assert len(list(path.parent.glob("*.png"))) == (1 if words[0] == "tenants" else 2)
    return read_result(path)


def test_one_tenant_beside_another(tmp_path: Path) -> None:
    found = measured(tmp_path, "tenants", "--connections", "4")
    assert {row.labels["runtime"] for row in found.rows} == {"process"}
    (throughput,) = found.select("throughput", when="the other tenant")
    (ratio,) = found.select("p99 ratio")
    assert throughput.median > 0
    assert ratio.median > 0
    assert all(row.median == 0 for row in found.select("errors")), "fair turns refuse nobody"
    assert not any((tmp_path / "scratch" / "tenants").iterdir())


def test_a_quiet_client_beside_attackers(tmp_path: Path) -> None:
    attack = "overflowing shapes"
    found = measured(tmp_path, "attacks", "--attacks", attack)
    assert {row.labels["attack"] for row in found.rows} == {attack}
    assert all(row.median == 0 for row in found.select("wrong answers to attackers"))
    assert all(row.median == 0 for row in found.select("errors")), "the quiet client's"
    answered = {row.labels["answer"] for row in found.select("attackers' answers")}
    assert {"400", "413"} <= answered <= {"400", "413", *ALWAYS_RIGHT}
    for name in ("memory before", "memory, most", "memory after", "time until idle"):
        assert len(found.select(name)) == 1
