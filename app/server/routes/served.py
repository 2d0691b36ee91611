"""What the routes need of the models; `app.serving` supplies it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from app.card import ModelCard
from app.runner import RunResult
from app.serving.statistics import Recorder, Statistics
from app.tensors import Array


class Model(Protocol):
    """One version of a model."""

    @property
    def model_id(self) -> str:
        """As clients address it."""

    @property
    def version(self) -> int:
        """As clients address it."""

    @property
    def card(self) -> ModelCard:
        """Its tensors, labels and preprocessing."""

    @property
    def is_available(self) -> bool:
        """Whether the next request is served, if need be after loading."""

    @property
    def recorder(self) -> Recorder:
        """Counts what the model does; the routes add reading and writing."""

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
        """Runs one request when its turn comes.

        Args:
            inputs: checked against the card.
            tenant: whose share of the model it takes.
            timeout_us: how long the client waits from now on; None for as long as it takes.
            priority: among the tenant's own requests; 0 for the default, else 1 goes first.
            gone: asked between partitions; True gives the request up.
            queued_ns: how long it has waited for a worker already.

        Raises:
            BusyError: too many wait already.
            DeadlineError: the timeout has passed.
            CancelledError: the client has left.
        """


class Models(Protocol):
    """All models of the appliance."""

    @property
    def budget_bytes(self) -> int:
        """Bound on the memory of all models together."""

    @property
    def used_bytes(self) -> int:
        """What of it loaded models have."""

    def find(self, model_id: str, version: str | None = None) -> Model:
        """Gives a model; without a version the one that is served.

        Raises:
            NotFoundError: there is none.
        """

    def index(self) -> Sequence[tuple[str, int, str, str]]:
        """Gives name, version, state and the reason for the state, of every version."""

    def load(self, name: str) -> None:
        """Loads a model, or its new version; waits until it answers."""

    def unload(self, name: str) -> None:
        """Unloads a model once its running requests are answered."""

    def models(self) -> Sequence[Model]:
        """Gives every version that is known."""

    def statistics(self, name: str | None, version: str | None) -> Sequence[Statistics]:
        """Gives the counters of every version asked for; None stands for all.

        Raises:
            NotFoundError: there is no such model.
        """
