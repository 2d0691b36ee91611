"""The ways of keeping a model that are compared, behind one server.

Every way answers over the same TLS endpoint, the same HTTP code and the same
codec, so that what differs is how the model is kept, and nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol, cast

from app.access.admission import Gate
from app.audit import Audit
from app.card import ModelCard
from app.config import TLS_LIBRARIES
from app.engine import WholeModel
from app.errors import NotFoundError
from app.runner import PartitionTiming, RunResult
from app.runtime import Runtime
from app.server.application import create_application
from app.server.certificate import make_identity
from app.server.routes.timing import SERVER_TIMING
from app.server.server import ApplianceServer
from app.server.tls.libraries import LIBRARIES
from app.serving.catalogue import Catalogue
from app.serving.statistics import Recorder
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

    def __call__(self, inputs: Mapping[str, Array]) -> tuple[RunResult, Phases]:
        """Gives what the runner would, and nanoseconds by phases that it doesn't have."""
        ...


def serve_ways(tell: Tell, kept: Kept) -> None:
    """Serves one model in all ways until the process is killed; tells an `Announcement`."""
    deployed = open_folder(kept.deployed)
    ways, files = _ways(kept, deployed)
    served = _Ways(_Served(name, deployed.card, way) for name, way in ways.items())
    application = create_application(cast(Catalogue, served), Audit(Runtime.PROCESS))
    identity = make_identity(
        "cloister",
        "benchmark",
        dns_names=["localhost"],
        addresses=["127.0.0.1"],
        valid_days=_VALID_DAYS,
        now=datetime.now(UTC),
    )
    name = f"cloister ({Runtime.PROCESS.value})"
    server = ApplianceServer(
        _Detailed(application.wsgi_app),
        LIBRARIES[TLS_LIBRARIES[0]](identity, None),
        ("127.0.0.1", 0),
        1,
        name,
        gate=Gate(None, insecure_open_access=True),
    )
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
    def way(inputs: Mapping[str, Array]) -> tuple[RunResult, Phases]:
        started = time.perf_counter_ns()
        outputs = run(inputs)
        return _result(outputs, time.perf_counter_ns() - started), {}

    return way


def _anew(naive: NaiveRunner) -> Way:
    def way(inputs: Mapping[str, Array]) -> tuple[RunResult, Phases]:
        outputs = naive.run(inputs)
        phases = dict(naive.phases)
        return _result(outputs, phases.pop("run")), phases

    return way


def _from_bundle(folder: ModelFolder, bundle: Path, threads: int) -> Way:
    """The runner reads and decrypts in one go and ahead of need, so that it has fewer phases."""
    runner = open_runner(folder, Case(folder.path, bundle, threads, 1, 1))

    def way(inputs: Mapping[str, Array]) -> tuple[RunResult, Phases]:
        return runner.run(inputs), {}

    return way


def _result(outputs: dict[str, Array], run_ns: int) -> RunResult:
    return RunResult(outputs, (PartitionTiming(0, 0, 0, run_ns, 0),), 0)


class _Served:
    """A way in the shape of a served model; see `app.server.routes.served.Model`."""

    def __init__(self, name: str, card: ModelCard, way: Way) -> None:
        self.model_id = name
        self.version = 1
        self.bundle_id = ""
        self.card = card
        self.is_available = True
        self.recorder = Recorder(name, self.version)
        self._way = way

    def infer(self, inputs: Mapping[str, Array], **_: object) -> RunResult:
        result, phases = self._way(inputs)
        _PHASES.clear()
        _PHASES.update(phases)
        return result


class _Ways:
    """All ways; of `Catalogue` what inference asks for."""

    def __init__(self, served: Iterable[_Served]) -> None:
        self._served = {each.model_id: each for each in served}

    def find(self, model_id: str, version: str | None = None) -> _Served:
        if model_id not in self._served or version is not None:
            raise NotFoundError(f"there is no way {model_id!r} of that version")
        return self._served[model_id]


_PHASES: Final[Phases] = {}
"""Of the last run, what the runner doesn't know. One worker answers one request at a time."""


@dataclass(frozen=True, slots=True)
class _Detailed:
    """Adds the phases of the naive ways to the header `Server-Timing`."""

    application: Callable[[dict[str, Any], Any], Iterable[bytes]]

    def __call__(self, environment: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        _PHASES.clear()

        def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            more = "".join(f", {name};dur={ns * _MS_PER_NS:.4f}" for name, ns in _PHASES.items())
            told = [(n, value + more if n == SERVER_TIMING else value) for n, value in headers]
            return start_response(status, told, *rest)

        return self.application(environment, start)
