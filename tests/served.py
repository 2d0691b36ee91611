"""Models for the routes, without a bundle, a runner or a queue, and clients with rights."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from flask import Flask
from flask.testing import FlaskClient

from app.access.admission import Admission
from app.audit import Audit
from app.card import ModelCard
from app.errors import NotFoundError
from app.runner import PartitionTiming, RunResult
from app.runtime import Runtime
from app.server.application import create_application
from app.server.wsgi import ADMISSION
from app.serving.catalogue import Catalogue
from app.serving.models import IndexEntry
from app.serving.statistics import Recorder, Statistics
from app.tensors import Array
from tests import fakes

ALL_RIGHTS = frozenset({"infer", "metadata", "manage", "metrics"})


TESTER = Admission("tester", None, ALL_RIGHTS)
"""May do everything."""


def admitted(
    models: frozenset[str] | None = None, rights: frozenset[str] = ALL_RIGHTS
) -> Admission:
    """A client with every right, unless told otherwise."""
    return Admission("tester", models, rights)


@dataclass
class Call:
    """What a route asked of a model."""

    inputs: Mapping[str, Array]
    tenant: str
    timeout_us: int | None
    priority: int
    gone: Callable[[], bool]
    queued_ns: int


@dataclass
class Model:
    """A model that computes in Python.

    Attributes:
        calls: every request that reached it.
    """

    model_id: str
    version: int
    card: ModelCard
    compute: fakes.Compute
    calls: list[Call] = field(default_factory=list)
    is_available: bool = True
    bundle_id: str = "ab" * 32
    recorder: Recorder = field(init=False)

    def __post_init__(self) -> None:
        self.recorder = Recorder(self.model_id, self.version)

    def infer(
        self,
        inputs: Mapping[str, Array],
        *,
        tenant: str,
        timeout_us: int | None,
        priority: int,
        gone: Callable[[], bool],
        queued_ns: int,
    ) -> RunResult:
        """See `app.serving.models.ServedModel`."""
        self.calls.append(Call(inputs, tenant, timeout_us, priority, gone, queued_ns))
        started = time.perf_counter_ns()
        outputs = self.compute(inputs)
        duration_ns = time.perf_counter_ns() - started
        timings = (PartitionTiming(0, 0, 0, 1_000_000, 7),)
        self.recorder.succeeded(duration_ns, 0, duration_ns)
        return RunResult(outputs, timings, 900)


@dataclass
class Models:
    """In the place of a `Catalogue`.

    Attributes:
        served: by id.
        states: by id, of those that aren't ready.
        changes: what was asked to be loaded or unloaded.
    """

    served: dict[str, Model]
    states: dict[str, tuple[str, str]] = field(default_factory=dict)
    changes: list[tuple[str, str]] = field(default_factory=list)
    budget_bytes: int = 1000
    used_bytes: int = 0

    @property
    def calls(self) -> list[Call]:
        """Requests that reached any model."""
        return [call for model in self.served.values() for call in model.calls]

    def find(self, model_id: str, version: str | None = None) -> Model:
        """See `Catalogue`."""
        found = self.served.get(model_id)
        if found is None:
            raise NotFoundError(f"there is no model {model_id[:80]!r}")
        if version not in (None, str(found.version)):
            raise NotFoundError(f"model {model_id!r} has no version {str(version)[:20]!r}")
        return found

    def index(self) -> list[IndexEntry]:
        """See `Catalogue`."""
        return [
            IndexEntry(name, model.version, *self.states.get(name, ("READY", "")), model.bundle_id)
            for name, model in self.served.items()
        ]

    def models(self) -> list[Model]:
        """See `Catalogue`."""
        return list(self.served.values())

    def load(self, name: str) -> None:
        """See `Catalogue`."""
        self.find(name)
        self.changes.append(("load", name))

    def unload(self, name: str) -> None:
        """See `Catalogue`."""
        self.find(name)
        self.changes.append(("unload", name))

    def statistics(self, name: str | None, version: str | None) -> list[Statistics]:
        """See `Catalogue`."""
        found = self.served.values() if name is None else [self.find(name, version)]
        return [model.recorder.snapshot() for model in found]


def models(**more: Model) -> Models:
    """Serves the cards of `tests.fakes`, as "sums" and "shades"."""
    sums = Model("sums", 1, fakes.TENSOR_CARD, fakes.plus_count)
    shades = Model("shades", 1, fakes.PICTURE_CARD, fakes.brightness)
    return Models({"sums": sums, "shades": shades, **more})


def catalogue(served: Models) -> Catalogue:
    """Gives them as what the application takes."""
    return cast(Catalogue, served)


def application(
    served: Models, admission: Admission | None = TESTER, *, log_requests: bool = False
) -> Flask:
    """Makes an application whose every request is admitted, as the event loop would do."""
    made = create_application(catalogue(served), Audit(Runtime.PROCESS), log_requests=log_requests)
    inner = made.wsgi_app

    def outer(environ: dict[str, Any], start_response: Any) -> Any:
        if admission is not None:
            environ.setdefault(ADMISSION, admission)
        return inner(environ, start_response)

    made.wsgi_app = outer  # type: ignore[method-assign]
    return made


def client(served: Models, admission: Admission | None = TESTER) -> FlaskClient:
    """Gives a client in this process."""
    return application(served, admission).test_client()
