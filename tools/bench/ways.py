"""The ways of keeping a model that are compared, behind one server.

Every way answers over the same TLS endpoint, the same HTTP code and the same
codec, so that what differs is how the model is kept, and nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol, cast

from app.card import ModelCard
from app.engine import WholeModel
from app.runner import RunResult
from app.runtime import Runtime
from app.server.application import create_application
from app.server.certificate import make_identity
from app.server.http import ApplianceServer
from app.serving import Catalogue, ServedModel
from app.tensors import Array
from tools.bench.children import Tell
from tools.bench.naive import CRYPTOGRAPHY, NaiveRunner
from tools.bench.runner import Case, open_runner
from tools.model_folder import ModelFolder, open_folder

MEMORY: Final = "memory"
MEMORY_BUNDLE: Final = "memory-bundle"
DISK: Final = "disk"
NAIVE: Final = "partitions-naive"
DEPLOYED: Final = "partitions-deployed"
WAYS: Final[Mapping[str, str]] = {
    MEMORY: "whole model in memory, not protected: onnxruntime as it comes",
    MEMORY_BUNDLE: "whole model in memory, decrypted once from an encrypted bundle",
    DISK: "whole model read from encrypted disk for every request",
    NAIVE: "partitions from encrypted disk, everything anew for every request",
    DEPLOYED: "partitions from an encrypted bundle, as deployed",
}
"""Every way that one process can serve, and what it is."""

_MS_PER_NS: Final = 1e-6
_VALID_DAYS: Final = 2
Phases = dict[str, int]


@dataclass(frozen=True, slots=True)
class Kept:
    """The files of one model in all its forms.

    Attributes:
        whole, whole_bundle: cut into one partition.
        naive: partitions for the naive way.
        deployed, deployed_bundle: partitions as deployed.
        scratch: an empty folder for what the naive ways encrypt.
        threads: of onnxruntime.
    """

    whole: Path
    whole_bundle: Path
    naive: Path
    deployed: Path
    deployed_bundle: Path
    scratch: Path
    threads: int


@dataclass(frozen=True, slots=True)
class Announcement:
    """A server that is ready.

    Attributes:
        port: on the loopback interface.
        certificate: PEM text.
        files: what each way reads while it answers.
    """

    port: int
    certificate: str
    files: Mapping[str, tuple[Path, ...]]


class Way(Protocol):
    """Answers one request."""

    def __call__(self, inputs: Mapping[str, Array]) -> tuple[dict[str, Array], Phases]:
        """Gives the outputs, and nanoseconds by phase."""
        ...


def serve_ways(tell: Tell, kept: Kept) -> None:
    """Serves one model in all ways until the process is killed; tells an `Announcement`."""
    deployed = open_folder(kept.deployed)
    ways, files = _ways(kept, deployed)
    application = create_application(
        Catalogue({n: cast(ServedModel, _Served(n, deployed.card, w)) for n, w in ways.items()}),
        Runtime.PROCESS,
    )
    timed = _Timed(application.wsgi_app)
    identity = make_identity(
        "cloister",
        "benchmark",
        dns_names=["localhost"],
        addresses=["127.0.0.1"],
        valid_days=_VALID_DAYS,
        now=datetime.now(UTC),
    )
    name = f"cloister ({Runtime.PROCESS.value})"
    server = ApplianceServer(timed, identity, ("127.0.0.1", 0), 1, name)
    _, port = server.bind()
    tell(Announcement(port, identity.certificate_pem.decode(), files))
    server.serve_forever()


def _ways(kept: Kept, deployed: ModelFolder) -> tuple[dict[str, Way], dict[str, tuple[Path, ...]]]:
    whole = open_folder(kept.whole)
    disk = _naive(whole, kept, "whole", whole_model=True)
    naive = _naive(open_folder(kept.naive), kept, "naive", whole_model=False)
    memory = WholeModel(whole.model_path, "all", kept.threads, prepack=True)
    ways: dict[str, Way] = {
        MEMORY: _timed_run(memory.run),
        MEMORY_BUNDLE: _from_bundle(whole, kept.whole_bundle, kept.threads),
        DISK: _anew(disk),
        NAIVE: _anew(naive),
        DEPLOYED: _from_bundle(deployed, kept.deployed_bundle, kept.threads),
    }
    files = {
        MEMORY: (),
        MEMORY_BUNDLE: _objects(kept.whole_bundle),
        DISK: tuple(disk.files),
        NAIVE: tuple(naive.files),
        DEPLOYED: _objects(kept.deployed_bundle),
    }
    return ways, files


def _objects(bundle: Path) -> tuple[Path, ...]:
    return tuple(sorted(bundle.glob("*.enc")))


def _naive(folder: ModelFolder, kept: Kept, name: str, *, whole_model: bool) -> NaiveRunner:
    scratch = kept.scratch / name
    scratch.mkdir(parents=True)
    return NaiveRunner(
        folder, scratch, kept.threads, implementation=CRYPTOGRAPHY, whole=whole_model
    )


def _timed_run(run: Callable[[Mapping[str, Array]], dict[str, Array]]) -> Way:
    def way(inputs: Mapping[str, Array]) -> tuple[dict[str, Array], Phases]:
        started = time.perf_counter_ns()
        outputs = run(inputs)
        return outputs, {"run": time.perf_counter_ns() - started}

    return way


def _anew(naive: NaiveRunner) -> Way:
    def way(inputs: Mapping[str, Array]) -> tuple[dict[str, Array], Phases]:
        outputs = naive.run(inputs)
        return outputs, dict(naive.phases)

    return way


def _from_bundle(folder: ModelFolder, bundle: Path, threads: int) -> Way:
    runner = open_runner(folder, Case(folder.path, bundle, threads, 1, 1))

    def way(inputs: Mapping[str, Array]) -> tuple[dict[str, Array], Phases]:
        result = runner.run(inputs)
        return result.outputs, phases_of(result)

    return way


def phases_of(result: RunResult) -> Phases:
    """Gives the runner's phases in nanoseconds.

    The runner reads and decrypts in one go, chunk by chunk and ahead of need; what a request
    notices of it is the wait for weights. Binding is a part of running.
    """
    return {
        "wait": sum(each.wait_ns for each in result.timings),
        "run": sum(each.run_ns for each in result.timings),
    }


@dataclass(slots=True)
class _Served:
    """A way in the shape of a served model."""

    model_id: str
    card: ModelCard
    way: Way
    version: int = 1

    def run(self, inputs: Mapping[str, Array]) -> RunResult:
        started = time.perf_counter_ns()
        outputs, phases = self.way(inputs)
        _SPANS[self.model_id] = _Span(started, time.perf_counter_ns(), phases)
        return RunResult(outputs, (), 0)


@dataclass(frozen=True, slots=True)
class _Span:
    started: int
    finished: int
    phases: Phases = field(default_factory=dict)


_SPANS: Final[dict[str, _Span]] = {}
"""The last run of each way. One worker answers one request at a time."""


@dataclass(frozen=True, slots=True)
class _Timed:
    """Tells clients where the time went, in W3C's Server-Timing header, in milliseconds."""

    application: Callable[[dict[str, Any], Any], Iterable[bytes]]

    def __call__(self, environment: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        started = time.perf_counter_ns()
        _SPANS.clear()

        def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            timing = _server_timing(started, time.perf_counter_ns())
            return start_response(status, [*headers, ("Server-Timing", timing)], *rest)

        return self.application(environment, start)


def _server_timing(started: int, finished: int) -> str:
    spans = list(_SPANS.values())
    parts = {"total": finished - started}
    if spans:
        span = spans[0]
        parts |= {"decode": span.started - started, "encode": finished - span.finished}
        parts |= span.phases
    return ", ".join(f"{name};dur={ns * _MS_PER_NS:.4f}" for name, ns in parts.items())
