"""A model that is loaded and waits for requests."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

from app.card import ModelCard
from app.errors import BusyError, NotFoundError
from app.limits import MAX_WAITING
from app.runner import Runner, RunResult
from app.tensors import Array


@dataclass(slots=True)
class ServedModel:
    """One model, one runner, one request at a time.

    Attributes:
        model_id, version: as clients address it.
        card: its tensors, labels and preprocessing.
        runner: used under the lock only.
    """

    model_id: str
    version: int
    card: ModelCard
    runner: Runner
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _places: threading.BoundedSemaphore = field(
        default_factory=lambda: threading.BoundedSemaphore(MAX_WAITING)
    )

    def run(self, inputs: Mapping[str, Array]) -> RunResult:
        """Waits for the runner and runs one request.

        Raises:
            BusyError: when too many requests wait already.
            ApplianceError: as `Runner.run` raises.
        """
        if not self._places.acquire(blocking=False):
            raise BusyError(f"model {self.model_id!r}: {MAX_WAITING} requests are waiting")
        try:
            with self._lock:
                return self.runner.run(inputs)
        finally:
            self._places.release()


class Catalogue:
    """The models that are served, by id and version."""

    def __init__(self, models: Mapping[str, ServedModel]) -> None:
        self._models = dict(models)

    def find(self, model_id: str, version: str | None = None) -> ServedModel:
        """Finds a model.

        Args:
            model_id: as in the URL.
            version: as in the URL; None for the one that is served.

        Raises:
            NotFoundError: when it isn't served.
        """
        model = self._models.get(model_id)
        if model is None:
            raise NotFoundError(f"there is no model {model_id[:80]!r}")
        if version is not None and version != str(model.version):
            raise NotFoundError(f"model {model_id!r} has no version {version[:20]!r}")
        return model
