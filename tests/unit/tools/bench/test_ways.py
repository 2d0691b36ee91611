"""The ways of keeping a model, behind one server."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cryptography.exceptions import InvalidTag

from app.engine import WholeModel
from tests import models
from tools.bench import modes
from tools.bench.client import Answer
from tools.bench.naive import CRYPTOGRAPHY, MBEDTLS, Cipher, NaiveRunner
from tools.bench.subjects import Subject
from tools.bench.ways import DEPLOYED, DISK, MEMORY, NAIVE, WAYS
from tools.errors import BenchmarkError
from tools.model_folder import ModelFolder
from tools.serving_client.connection import Reply


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    return Subject("wide", models.save(models.wide_chain(4, 64), tmp_path / "wide" / "model.onnx"))


@pytest.mark.parametrize("cipher", [MBEDTLS, CRYPTOGRAPHY], ids=lambda each: each.name)
@pytest.mark.parametrize("whole", [True, False])
def test_naive_ways_compute_what_the_model_does(
    tmp_path: Path, chain_folder: ModelFolder, cipher: Cipher, whole: bool
) -> None:
    runner = NaiveRunner(chain_folder, tmp_path, 1, implementation=cipher, whole=whole)
    inputs = models.inputs_for(models.chain())
    expected = WholeModel(chain_folder.model_path, "all").run(inputs)
    for name, array in runner.run(inputs).items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-5)
    assert len(runner.files) == (1 if whole else len(chain_folder.plan.partitions))
    assert all(nanoseconds > 0 for nanoseconds in runner.phases.values())
    plain = chain_folder.model_path.read_bytes()
    assert all(file.read_bytes()[28:] not in plain for file in runner.files)


def test_naive_ways_refuse_what_was_altered(tmp_path: Path, chain_folder: ModelFolder) -> None:
    runner = NaiveRunner(chain_folder, tmp_path, 1, implementation=CRYPTOGRAPHY)
    raw = bytearray(runner.files[1].read_bytes())
    raw[40] ^= 1
    runner.files[1].write_bytes(raw)
    with pytest.raises(InvalidTag):
        runner.run(models.inputs_for(models.chain()))


def test_all_ways_answer_the_same_request_over_tls(subject: Subject, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    settings = modes.Settings(None, 2, scratch, packed=False)
    steps: list[int] = []
    case = modes.case_of("wide", lambda _: subject, 1, settings)
    rows = list(case.measure(lambda: steps.append(1)))
    assert len(steps) == case.steps
    latencies = [each for each in rows if each.metric == "latency"]
    keys = {(each.labels["mode"], each.labels["cache"]) for each in latencies}
    assert keys == {(way, cache) for way in WAYS for cache in modes.CACHES}
    assert {each.labels["runtime"] for each in latencies} == {"process"}
    assert all(len(each.samples) == 2 for each in rows)
    phases = {way: {e.metric for e in rows if e.labels["mode"] == way} for way in WAYS}
    around = {"latency", "tls", "decode", "run", "encode"}
    assert phases[MEMORY] == around
    assert phases[DISK] == phases[NAIVE] == around | {"read", "decrypt", "bind"}
    assert phases[DEPLOYED] == around | {"wait"}
    assert not any(scratch.iterdir()), "plain models aren't left behind"


def test_parts_of_a_request_add_up_to_it() -> None:
    told = "total;dur=8.0, decode;dur=2.0, wait;dur=0.0000, run;dur=5.0, encode;dur=1.0, load;dur=3"
    found = modes.phase_samples([Answer(Reply({"server-timing": told}, b""), 0.010)])
    assert sum(samples[0] for samples in found.values()) == pytest.approx(0.010)
    assert list(found) == ["tls", "decode", "run", "encode"]


def test_a_server_that_tells_no_parts_has_none() -> None:
    assert modes.phase_samples([Answer(Reply({}, b""), 0.010)]) == {}


def test_a_way_that_computes_something_else_is_not_measured() -> None:
    good = {"y": np.array([1.0, 2.0])}
    modes.compare_outputs("m", DISK, good, {"y": np.array([1.0, 2.0001])})
    for bad in (np.array([1.0, 2.5]), np.array([1.0, np.nan])):
        with pytest.raises(BenchmarkError, match="differs from 'memory'"):
            modes.compare_outputs("m", DISK, good, {"y": bad})
