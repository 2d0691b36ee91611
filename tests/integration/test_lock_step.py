"""Requests that run together: planned for, built into a configuration, served, counted."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from app.engine import OrtEngine
from app.runner import Runner, RunResult
from app.tensors import Array
from tests import folders, models
from tests.folders import KEYS
from tests.integration.appliance import Appliance, running
from tools.accuracy.readers import FolderReader
from tools.bench.client import Endpoint
from tools.bench.profile import read_batches
from tools.bench.runner import request_of
from tools.commands.partition import main as partition
from tools.model_folder import ModelFolder, open_folder
from tools.serving_client import ServingClient, Trust

TOGETHER = 4
ROUNDS = 20
WIDTH = 512


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    """A model that streams its weights, so that running together pays."""
    place = tmp_path_factory.mktemp("lock-step")
    source = models.save(models.wide_chain(12, WIDTH), place / "wide.onnx")
    words = ["--lock-step", str(TOGETHER), "--budget", "6MiB", "--quiet"]
    assert partition([str(source), "-o", str(place / "wide"), *words]) == 0
    return open_folder(place / "wide")


@pytest.fixture
def appliance(folder: ModelFolder, tmp_path: Path) -> Iterator[Appliance]:
    """Serves it as it was planned."""
    keys = tmp_path / "keys"
    keys.mkdir()
    (keys / "wide.key").write_bytes(KEYS.model_key)
    owner = base64.b64encode(KEYS.owner.public_key().public_bytes_raw()).decode()
    config = {
        "format": 1,
        "sgx_mode": "SIM",
        "production": False,
        "listen": {"host": "127.0.0.1", "port": 0, "names": ["localhost"]},
        "models": [
            {
                "id": "wide",
                "bundle": str(folders.make_bundle(folder, tmp_path / "wide.bundle")),
                "minimum_version": 1,
                "owner_public_key": owner,
            }
        ],
        "insecure_key_folder": str(keys),
        "budget_bytes": folder.plan.budget_bytes,
        "workers": TOGETHER + 1,
        "inference_threads": 1,
        "max_batch": TOGETHER,
        "max_delay_us": 200_000,
        "insecure_open_access": True,
    }
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    with running(path) as found:
        yield found


def test_what_was_planned_runs_at_once_inside_the_budget(folder: ModelFolder) -> None:
    plan = folder.plan
    runner = Runner(
        FolderReader(folder),
        OrtEngine(plan.threads),
        plan.budget_bytes,
        plan.inputs,
        plan.outputs,
        lock_step=plan.lock_step,
        overlap=plan.overlap,
    )
    requests = [request_of(folder, seed) for seed in range(TOGETHER)]
    found = runner.run_each(requests)
    runner.close()
    assert all(isinstance(each, RunResult) for each in found), "none had to wait for room"
    peaks = [each.peak_bytes for each in found if isinstance(each, RunResult)]
    assert max(peaks) <= plan.budget_bytes
    assert runner.schedule.slots > 0, "there was something to share"


def test_requests_run_together_and_each_gets_what_it_gets_alone(appliance: Appliance) -> None:
    endpoint = Endpoint(appliance.url, Trust(ca_file=appliance.certificate))
    draw = np.random.default_rng(1)
    asked = [draw.standard_normal((1, WIDTH), dtype=np.float32) for _ in range(TOGETHER)]

    def ask(array: Array, times: int) -> list[bytes]:
        with ServingClient(endpoint.url, endpoint.trust) as client:
            answers = [client.infer("wide", {"x": array}).outputs["y"] for _ in range(times)]
        return [answer.tobytes() for answer in answers]

    alone = [ask(array, 1) for array in asked]
    before = read_batches(endpoint, "wide")
    assert before is not None
    assert before.counts == {1: TOGETHER}
    with ThreadPoolExecutor(TOGETHER) as clients:
        found = list(clients.map(lambda array: ask(array, ROUNDS), asked))
    for once, often in zip(alone, found, strict=True):
        assert often == once * ROUNDS
    after = read_batches(endpoint, "wide")
    assert after is not None
    formed = after.since(before).counts
    assert sum(size * count for size, count in formed.items()) == TOGETHER * ROUNDS
    assert 1 < max(formed) <= TOGETHER
