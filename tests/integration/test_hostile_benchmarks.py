"""tools/benchmark.py tenants and attacks, on an appliance that runs as a plain process."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.appliance import prepare, running
from tools.bench.acts import CLOSED
from tools.bench.attackers import ALWAYS_RIGHT
from tools.bench.client import Endpoint
from tools.bench.criterion import DURING, HOLDS, verdicts
from tools.bench.packed import PackedModel
from tools.bench.results import Result, read_result
from tools.bench.rivals import ALONE, BUSY
from tools.commands.benchmark import main
from tools.image.appliance import RunningImage
from tools.model_folder import ModelFolder
from tools.serving_client import Trust


def build(
    folder: ModelFolder,
    bundle: Path,
    target: Path,
    threads: int,
    *,
    access_policy: Path,
    beside: Mapping[str, Path],
    budget_bytes: int,
) -> PackedModel:
    """Prepares a process in the place of an image."""
    assert threads == 1
    assert not beside
    assert budget_bytes == 0
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
    monkeypatch.setattr("tools.bench.newcomers.ROUND_TRIP_S", 0.0)
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
    chosen = {"overflowing shapes": {"400", "413"}, "pipelined 403s": {"403", CLOSED}}
    found = measured(tmp_path, "attacks", "--attacks", ", ".join(chosen))
    assert {row.labels["attack"] for row in found.rows} == chosen.keys()
    assert all(row.median == 0 for row in found.select("wrong answers to attackers"))
    for attack, right in chosen.items():
        answers = found.select("attackers' answers", attack=attack)
        assert {row.labels["answer"] for row in answers} <= right | ALWAYS_RIGHT
        for when in (ALONE, BUSY, DURING):
            (errors,) = found.select("errors", attack=attack, when=when)
            (arrivals,) = found.select("new connection", attack=attack, when=when)
            assert errors.median == 0, "the quiet client's"
            assert arrivals.samples
        for name in ("memory before", "memory, most", "memory after", "time until idle", HOLDS):
            assert len(found.select(name, attack=attack)) == 1
    assert [line[0] for line in verdicts(found)] == [*chosen]


def test_an_attack_that_nobody_knows_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["attacks", "--attacks", "bombs, deaf JSON"])
    assert stopped.value.code == 2
    assert "no attack 'deaf JSON'; there are unfinished handshakes" in capsys.readouterr().err
