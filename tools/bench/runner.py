"""The runner against the same model resident in onnxruntime, and against a naive design.

Every case runs in a process of its own that has imported everything before it
measures. Both ways get the same number of onnxruntime threads; both may use
both cores, so with one thread a core is free for loading ahead.
"""

from __future__ import annotations

import hashlib
import secrets
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final, TypeVar

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from app.bundle import BundleReader, read_manifest
from app.engine import OrtEngine, WholeModel
from app.objects import KEY_BYTES
from app.runner import Runner, RunResult
from app.schedule import LANES, lanes
from app.tensors import Array, TensorSpec, aligned_buffer
from tools.bench.children import Tell, call_in_child
from tools.bench.interleaved import Timings, measure
from tools.bench.memory import limited, resident_bytes
from tools.bench.naive import NaiveRunner
from tools.bundling.writer import BundleKeys, write_bundle
from tools.model_folder import ModelFolder, open_folder

T = TypeVar("T")

SEED: Final = 1
LIMIT_MARGIN: Final = 1.05
"""The kernel's limit over the budget, for the interpreter's own small change."""

_SAMPLE_S: Final = 0.001
_DECRYPTING_PASSES: Final = 5


@dataclass(frozen=True, slots=True)
class Case:
    """What is measured.

    Attributes:
        folder: a model's folder, planned for the budget.
        bundle: its encrypted bundle.
        threads: of onnxruntime, in both ways.
        lock_step: requests per batch.
        rounds: how often each way runs.
    """

    folder: Path
    bundle: Path
    threads: int
    lock_step: int
    rounds: int


@dataclass(frozen=True, slots=True)
class Speed:
    """What a speed case gave.

    Attributes:
        runner: per request, to the resident model.
        resident_s: median of a request of the resident model.
        difference: largest relative difference of the outputs.
        decrypted_bytes: of one batch in steady state.
        wait_s, run_s: of one batch: waiting for weights, computing.
        one_thread_rate, two_threads_rate: bytes per second that reading and decrypting this very
            bundle reaches with nothing else to do: what waiting can't go below.
    """

    runner: Timings
    resident_s: float
    difference: float
    decrypted_bytes: int
    wait_s: float
    run_s: float
    one_thread_rate: float
    two_threads_rate: float


@dataclass(frozen=True, slots=True)
class Memory:
    """What a memory case gave.

    Attributes:
        budget_bytes: of the plan.
        growth_bytes: peak of resident memory over the process that had only imported.
        accounted_bytes: peak by the runner's own account.
        held_by: the kernel's limit it ran under, "" without one.
        outputs: digest of all outputs.
    """

    budget_bytes: int
    growth_bytes: int
    accounted_bytes: int
    held_by: str
    outputs: str


def fresh_keys() -> BundleKeys:
    """Makes keys for bundles that are thrown away."""
    return BundleKeys(secrets.token_bytes(KEY_BYTES), Ed25519PrivateKey.generate())


def write_keyed_bundle(folder: ModelFolder, target: Path, keys: BundleKeys | None = None) -> None:
    """Writes a bundle and leaves its keys beside it for the measuring processes.

    Args:
        folder: the model.
        target: the bundle.
        keys: of several bundles; None for fresh ones.
    """
    keys = keys or fresh_keys()
    write_bundle(folder, keys, target, progress=lambda _: None)
    (target / "bench.key").write_bytes(keys.model_key)
    (target / "bench.pub").write_bytes(keys.owner.public_key().public_bytes_raw())


def in_child(work: Callable[[Case], T], case: Case) -> T:
    """Runs a measurement in a fresh process."""
    return call_in_child(lambda: None, _measured, work, case)


def _measured(_tell: Tell, work: Callable[[Case], T], case: Case) -> T:
    return work(case)


def measure_speed(case: Case) -> Speed:
    """Times the runner and the resident model in turn."""
    folder = open_folder(case.folder)
    requests = [request_of(folder, SEED + number) for number in range(case.lock_step)]
    resident = WholeModel(folder.model_path, "all", case.threads, prepack=True)
    runner = open_runner(folder, case)
    results: list[RunResult] = []

    def run_batch() -> None:
        results[:] = runner.run_batch(requests)

    def run_resident() -> None:
        for request in requests:
            resident.run(request)

    timings = measure(
        {"resident": run_resident, "runner": run_batch}, case.rounds, baseline="resident"
    )
    expected = resident.run(requests[-1])
    runner.close()
    return Speed(
        runner=timings["runner"],
        resident_s=timings["resident"].median_s / len(requests),
        difference=max(_difference(expected[n], a) for n, a in results[-1].outputs.items()),
        decrypted_bytes=sum(each.weights_bytes for each in results[-1].timings),
        wait_s=sum(each.wait_ns for each in results[-1].timings) / 1e9,
        run_s=sum(each.run_ns for each in results[-1].timings) / 1e9,
        one_thread_rate=decrypting_rate(open_bundle(case.bundle, 1), 1),
        two_threads_rate=decrypting_rate(open_bundle(case.bundle, LANES), LANES),
    )


def measure_naive(case: Case) -> float:
    """Gives the naive design's median ratio to the resident model."""
    folder = open_folder(case.folder)
    request = request_of(folder, SEED)
    resident = WholeModel(folder.model_path, "all", case.threads, prepack=True)
    with tempfile.TemporaryDirectory(prefix="cloister-") as scratch:
        naive = NaiveRunner(folder, Path(scratch), case.threads)
        timings = measure(
            {"resident": lambda: resident.run(request), "naive": lambda: naive.run(request)},
            case.rounds,
            baseline="resident",
        )
    return timings["naive"].ratio


def measure_memory(case: Case) -> Memory:
    """Runs without a limit and gives the peak of resident memory."""
    return _measure_memory(case, limit=False)


def measure_limited(case: Case) -> Memory:
    """Runs under a limit of the kernel's of budget and margin."""
    return _measure_memory(case, limit=True)


def _measure_memory(case: Case, *, limit: bool) -> Memory:
    folder = open_folder(case.folder)
    requests = [request_of(folder, SEED + number) for number in range(case.lock_step)]
    budget_bytes = folder.plan.budget_bytes
    before = resident_bytes()
    with _limit(round(budget_bytes * LIMIT_MARGIN), limit) as held_by, _peak() as peak:
        runner = open_runner(folder, case)
        results = [runner.run_batch(requests) for _ in range(case.rounds)][-1]
        runner.close()
    return Memory(
        budget_bytes=budget_bytes,
        growth_bytes=peak[0] - before,
        accounted_bytes=max(result.peak_bytes for result in results),
        held_by=held_by,
        outputs=_digest(results),
    )


@contextmanager
def _limit(more_bytes: int, wanted: bool) -> Iterator[str]:
    if not wanted:
        yield ""
        return
    with limited(more_bytes) as held_by:
        yield held_by


@contextmanager
def _peak() -> Iterator[list[int]]:
    """Samples resident memory in a thread; the kernel's own peak would count library files too."""
    peak = [resident_bytes()]
    ended = threading.Event()

    def sample() -> None:
        while not ended.wait(_SAMPLE_S):
            peak[0] = max(peak[0], resident_bytes())

    sampler = threading.Thread(target=sample, name="sampler")
    sampler.start()
    try:
        yield peak
    finally:
        ended.set()
        sampler.join()


def open_bundle(bundle: Path, loading: int | None = None) -> BundleReader:
    """Opens a bundle with the keys beside it.

    Args:
        bundle: its folder.
        loading: threads that load its weights; as many as its schedule says if None.
    """
    owner = Ed25519PublicKey.from_public_bytes((bundle / "bench.pub").read_bytes())
    manifest = read_manifest(bundle, owner, minimum_version=1)
    loading = loading or lanes(each.weights_bytes for each in manifest.partitions)
    return BundleReader(bundle, manifest, (bundle / "bench.key").read_bytes(), lanes=loading)


def open_runner(folder: ModelFolder, case: Case) -> Runner:
    """Opens a bundle with the keys beside it, in the budget of its plan."""
    plan = folder.plan
    return Runner(
        open_bundle(case.bundle),
        OrtEngine(case.threads),
        plan.budget_bytes,
        plan.inputs,
        plan.outputs,
        lock_step=case.lock_step,
        overlap=case.threads == 1,
    )


def decrypting_rate(reader: BundleReader, threads: int) -> float:
    """Gives the bytes per second of reading and decrypting all weights, the median of some passes.

    Args:
        reader: it counts the memory of as many threads.
        threads: that share each load.
    """
    sizes = [reader.weights_bytes(index) for index in range(reader.partition_count)]
    buffer = aligned_buffer(max(sizes))
    taken = []
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(_DECRYPTING_PASSES):
            started = time.perf_counter()
            for index, size in enumerate(sizes):
                load = reader.load_weights(index, buffer[:size])
                wait([pool.submit(load.work) for _ in range(threads)])
                load.finish()
            taken.append(time.perf_counter() - started)
    return sum(sizes) / median(taken)


def request_of(folder: ModelFolder, seed: int) -> Mapping[str, Array]:
    """Makes one request of seeded normal numbers; symbolic dimensions take their planned size."""
    return request_for(folder.plan.inputs, dict(folder.plan.dimensions), seed)


def request_for(
    specs: Sequence[TensorSpec], dimensions: Mapping[str, int], seed: int
) -> dict[str, Array]:
    """Makes one request of seeded normal numbers; unknown symbolic dimensions count as 1."""
    rng = np.random.default_rng(seed)
    found = {}
    for spec in specs:
        shape = [dimensions.get(d, 1) if isinstance(d, str) else d for d in spec.shape or ()]
        if spec.dtype.startswith("float"):
            found[spec.name] = rng.standard_normal(shape).astype(spec.dtype)
        else:
            found[spec.name] = rng.integers(0, 2, shape).astype(spec.dtype)
    return found


def _difference(expected: Array, actual: Array) -> float:
    if expected.dtype.kind != "f":
        return float(not np.array_equal(expected, actual))
    scale = float(np.abs(expected).max()) or 1.0
    return float(np.abs(expected - actual).max()) / scale


def _digest(results: list[RunResult]) -> str:
    digest = hashlib.sha256()
    for result in results:
        for name in sorted(result.outputs):
            digest.update(np.ascontiguousarray(result.outputs[name]).tobytes())
    return digest.hexdigest()
