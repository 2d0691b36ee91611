"""A model of 2.25 GiB, in a budget of 128 MiB, by tools that hold a fraction of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

import numpy as np
import pytest

from app.bundle import BundleReader, read_manifest
from app.engine import OrtEngine, WholeModel
from app.runner import Runner
from app.tensors import Array
from tests import folders
from tests.large.build import LAYER_BYTES, WIDTH, build
from tools.bench.memory import peak_bytes, reset_peak
from tools.bundling.writer import write_bundle
from tools.model_folder import ModelFolder, changed_files, open_folder

pytestmark = pytest.mark.large

BUDGET_BYTES: Final = 128 << 20
TOOL_BYTES: Final = LAYER_BYTES
"""What the tool may allocate, Python and onnxruntime included: as much as one of the nine layers.
Weights are mapped from the file, which the kernel counts apart, and copied tile by tile."""

WATCHED = """
import sys, threading
from tools.bench.memory import resident_bytes
from tools.commands.partition import main

done, most = threading.Event(), 0

def watch():
    global most
    while not done.wait(0.01):
        most = max(most, resident_bytes())

watcher = threading.Thread(target=watch)
watcher.start()
status = main(sys.argv[1:])
done.set()
watcher.join()
print(most)
sys.exit(status)
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("large") / "source")


def test_large_model_in_a_small_budget(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "large"
    words = [str(source), "-o", str(target), "--budget", "128MiB", "--quiet"]
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, *words], timeout=600, check=True, stdout=subprocess.PIPE
    )
    assert int(done.stdout) < TOOL_BYTES
    folder = open_folder(target)
    assert changed_files(folder) == []
    assert folder.plan.peak_bytes <= BUDGET_BYTES
    write_bundle(folder, folders.KEYS, tmp_path / "bundle", progress=lambda _: None)
    inputs = {"x": np.random.default_rng(2).standard_normal((1, WIDTH)).astype(np.float32)}
    found = _run(folder, tmp_path / "bundle", inputs["x"])
    np.testing.assert_array_equal(found, WholeModel(source, "none").run(inputs)["y"])


def _run(folder: ModelFolder, bundle: Path, x: Array) -> Array:
    """Runs the bundle twice and checks the memory that it takes, by the kernel's count."""
    manifest = read_manifest(bundle, folders.KEYS.owner.public_key(), minimum_version=1)
    engine = OrtEngine()
    reset_peak()
    before = peak_bytes()
    reader = BundleReader(bundle, manifest, folders.KEYS.model_key)
    runner = Runner(reader, engine, BUDGET_BYTES, folder.plan.inputs, folder.plan.outputs)
    try:
        runner.run({"x": x})
        result = runner.run({"x": x})
    finally:
        runner.close()
    assert result.peak_bytes <= BUDGET_BYTES
    assert peak_bytes() - before < 1.05 * BUDGET_BYTES
    return result.outputs["y"]
