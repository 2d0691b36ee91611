"""Where the time of a stretch of load went: batches as the server counts them, phases of requests.

A request's phases are what the server says of it in `Server-Timing`. In a batch "wait" and "run"
are the whole batch's, for every request waits for all of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tools.bench.client import Answer, Endpoint
from tools.bench.results import Row
from tools.errors import ServingError
from tools.serving_client import ServingClient

PHASES: Final = ("tls and queue", "decode", "turn", "wait", "run", "encode")
"""Parts of a request, in their order: TLS, HTTP and waiting for a worker; reading tensors; waiting
for the batch before and for others; waiting for weights; computing; writing tensors."""

_UNTOLD: Final = "the server doesn't tell"
_NS_PER_S: Final = 1e9


@dataclass(frozen=True, slots=True)
class Batches:
    """Batches that a model has run.

    Attributes:
        counts: how many of each size.
        seconds: how long they ran altogether.
    """

    counts: Counter[int]
    seconds: float

    def since(self, before: Batches) -> Batches:
        """Gives those that ended after an earlier moment."""
        return Batches(self.counts - before.counts, self.seconds - before.seconds)

    @property
    def mean_size(self) -> float:
        """Requests per batch.

        Raises:
            ZeroDivisionError: when there was none.
        """
        return sum(size * count for size, count in self.counts.items()) / self.counts.total()


def read_batches(endpoint: Endpoint, model: str) -> Batches | None:
    """Asks a server for the batches of a model; None when it doesn't tell."""
    try:
        with ServingClient(endpoint.url, endpoint.trust) as client:
            found = client.statistics(model)
        every = [each for version in found for each in version["batch_stats"]]
        counts = Counter({each["batch_size"]: each["compute_infer"]["count"] for each in every})
        ns = sum(each["compute_infer"]["ns"] for each in every)
    except (ServingError, KeyError, TypeError):
        return None
    return Batches(counts, ns / _NS_PER_S)


def phases_of(answer: Answer) -> dict[str, float]:
    """Gives the seconds of each of `PHASES`; empty when the server doesn't tell."""
    told = answer.phases
    if not {"total", "decode", "wait", "run", "encode"} <= told.keys():
        return {}
    known = {name: told[name] for name in ("decode", "wait", "run", "encode")}
    return {
        **known,
        "tls and queue": answer.latency_s - told["total"],
        "turn": max(0.0, told["total"] - sum(known.values())),
    }


@dataclass(frozen=True, slots=True)
class Profile:
    """What is known of one stretch.

    Attributes:
        seconds: its length.
        answers: how many answers there were.
        phases: seconds of all of them, by phase; empty when the server didn't tell.
        batches: that ended in it; None when the server didn't tell.
    """

    seconds: float
    answers: int
    phases: Mapping[str, float]
    batches: Batches | None


def profile_rows(labels: dict[str, str], found: Sequence[Profile]) -> Iterable[Row]:
    """Gives the rows of one level of load: a sample of each stretch that has one."""
    told = [(each.batches, each.seconds) for each in found if each.batches and each.batches.counts]
    counts: Counter[int] = sum((batches.counts for batches, _ in told), Counter())
    sizes = ", ".join(f"{count} of {size}" for size, count in sorted(counts.items()))
    means = tuple(batches.mean_size for batches, _ in told)
    yield Row(labels, "batch size", "", means, sizes or _UNTOLD)
    shares = tuple(batches.seconds / seconds for batches, seconds in told)
    note = "share of the time in which a batch ran" if told else _UNTOLD
    yield Row(labels, "busy", "", shares, note)
    for phase in PHASES:
        means = tuple(each.phases[phase] / each.answers for each in found if each.phases)
        yield Row(labels, phase, "s", means, "mean of a request" if means else _UNTOLD)
