"""Closed-loop and open-loop clients against a TLS endpoint.

Closed loop: each client sends its next request when it has its answer. The load adapts to the
server, so it finds the throughput, and flatters the latency of an overloaded server.

Open loop: requests come at random moments (Poisson) whatever the server does, as from many
independent users. Latency counts from the moment at which a request was meant to be sent, so that
one which had to wait for a free client isn't counted as if it had come later.
"""

from __future__ import annotations

import queue
import random
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tools.bench.campaign import Case, Step
from tools.bench.client import Client, Endpoint, Request, encoded
from tools.bench.packed import build_image, serving
from tools.bench.results import Row
from tools.bench.runner import SEED, request_of
from tools.bench.spread import percentile
from tools.bench.subjects import Cut, Subject, encrypted, in_budget
from tools.errors import BenchmarkError, ServingError

CLIENTS: Final = (1, 2, 4, 8, 16, 32, 64)
SHARES: Final = (0.25, 0.5, 0.75, 0.9, 1.1)
"""Rates of the open loop, of the best throughput that the closed loop found."""

SENDERS: Final = 64
"""Connections of the open loop."""

_PERCENTILES: Final = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("max", 1.0))
_DIGITS: Final = 6
"""Latencies are kept to the microsecond."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How much load for how long.

    Attributes:
        clients: numbers of closed-loop clients.
        shares: rates of the open loop, of the best closed throughput.
        seconds: length of one stretch.
        rounds: stretches at each level, in an order drawn anew.
    """

    clients: Sequence[int]
    shares: Sequence[float]
    seconds: float
    rounds: int


@dataclass(frozen=True, slots=True)
class Service:
    """What is asked, and how it is asked.

    Attributes:
        endpoint: the server.
        model: its id.
        request: what every client sends.
    """

    endpoint: Endpoint
    model: str
    request: Request


@dataclass(slots=True)
class Stretch:
    """What came of one stretch of load.

    Attributes:
        seconds: from its first request to its last answer.
        latencies: of the answers that were right.
        errors: how many of each kind weren't.
    """

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)

    @property
    def throughput(self) -> float:
        """Right answers per second."""
        return len(self.latencies) / self.seconds if self.seconds else 0.0


def steps(settings: Settings) -> int:
    """Gives the number of stretches."""
    return settings.rounds * (len(settings.clients) + len(settings.shares))


def case_of(
    name: str,
    find: Callable[[str], Subject],
    threads: int,
    settings: Settings,
    scratch: Path,
) -> Case:
    """Gives the case of one model in the packed image."""
    return Case(
        f"{name}, load",
        steps(settings),
        lambda step: _measure_packed(find(name), threads, settings, scratch, step),
    )


def _measure_packed(
    subject: Subject, threads: int, settings: Settings, scratch: Path, step: Step
) -> list[Row]:
    place = scratch / f"{subject.name}-load"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    try:
        folder = in_budget(subject, None, {place / subject.name: Cut(threads=threads)})[0]
        packed = build_image(folder, encrypted(folder, place / "bundle"), place / "packed", threads)
        labels = {"threads": str(threads), "plan budget": str(folder.plan.budget_bytes)}
        request = encoded(request_of(folder, SEED))
        with serving(packed, place / "appliance.log") as (_, endpoint):
            service = Service(endpoint, packed.model, request)
            return measure(subject.name, labels, service, settings, step)
    finally:
        shutil.rmtree(place)


def measure(
    name: str, labels: dict[str, str], service: Service, settings: Settings, step: Step
) -> list[Row]:
    """Puts all levels of load on a server, closed loop first.

    Raises:
        ServingError: when it doesn't answer one request alone.
        BenchmarkError: when no request was answered under load.
    """
    with Client(service.endpoint) as alone:
        answer = alone.infer(service.model, service.request)
    answer.outputs()
    labels = {"model": name, "runtime": answer.runtime, **labels}
    draw = random.Random(SEED)  # noqa: S311 - an order and moments, not a secret
    closed = _levels(
        settings.clients, settings, draw, lambda n: closed_loop(service, n, settings.seconds), step
    )
    best = max(each.throughput for found in closed.values() for each in found)
    if not best:
        raise BenchmarkError(f"{name}: no request of the closed loop was answered")
    opened = _levels(
        settings.shares,
        settings,
        draw,
        lambda share: open_loop(service, share * best, settings.seconds, draw),
        step,
    )
    rows = [
        row
        for count, found in closed.items()
        for row in _rows({**labels, "loop": "closed", "clients": str(count)}, found)
    ]
    for share, found in opened.items():
        of_rate = {**labels, "loop": "open", "rate": f"{share * best:.4g}", "share": f"{share:g}"}
        rows.extend(_rows(of_rate, found))
    return rows


def _levels(
    levels: Sequence[int] | Sequence[float],
    settings: Settings,
    draw: random.Random,
    put: Callable[[int], Stretch] | Callable[[float], Stretch],
    step: Step,
) -> dict[float, list[Stretch]]:
    """Puts every level on the server once a round, in an order drawn anew."""
    found: dict[float, list[Stretch]] = {level: [] for level in levels}
    for _ in range(settings.rounds):
        for level in draw.sample(list(levels), len(levels)):
            found[level].append(put(level))  # type: ignore[arg-type]
            step()
    return found


def _rows(labels: dict[str, str], found: Sequence[Stretch]) -> Iterable[Row]:
    errors: Counter[str] = sum((each.errors for each in found), Counter())
    kinds = ", ".join(f"{kind}: {count}" for kind, count in sorted(errors.items()))
    latencies = [round(each, _DIGITS) for stretch in found for each in stretch.latencies]
    yield Row(labels, "throughput", "1/s", tuple(each.throughput for each in found))
    yield Row(labels, "errors", "", tuple(float(each.errors.total()) for each in found), kinds)
    yield Row(labels, "latency", "s", tuple(latencies), "" if latencies else "no right answer")
    for name, share in _PERCENTILES:
        samples = (percentile(latencies, share),) if latencies else ()
        yield Row(labels, name, "s", samples, f"of {len(latencies)} answers")


def closed_loop(service: Service, clients: int, seconds: float) -> Stretch:
    """Lets some clients ask, each again as soon as it has its answer."""
    found = Stretch()
    lock = threading.Lock()
    together = threading.Barrier(clients + 1)

    def ask() -> None:
        mine = Stretch()
        with Client(service.endpoint) as client:
            _send(client, service)  # connects, uncounted
            together.wait()
            end = time.perf_counter() + seconds
            while time.perf_counter() < end:
                _count(mine, _send(client, service))
        with lock:
            found.latencies += mine.latencies
            found.errors += mine.errors

    threads = [threading.Thread(target=ask, name="client") for _ in range(clients)]
    for thread in threads:
        thread.start()
    together.wait()
    started = time.perf_counter()
    for thread in threads:
        thread.join()
    found.seconds = time.perf_counter() - started
    return found


def open_loop(service: Service, rate: float, seconds: float, draw: random.Random) -> Stretch:
    """Sends requests at random moments of a mean rate; late ones count from their moment."""
    found = Stretch()
    lock = threading.Lock()
    due: queue.Queue[float | None] = queue.Queue()
    together = threading.Barrier(SENDERS + 1)

    def send() -> None:
        with Client(service.endpoint) as client:
            _send(client, service)
            together.wait()
            while (moment := due.get()) is not None:
                error = _send(client, service)[1]
                with lock:
                    _count(found, (time.perf_counter() - moment, error))

    threads = [threading.Thread(target=send, name="sender") for _ in range(SENDERS)]
    for thread in threads:
        thread.start()
    together.wait()
    started = time.perf_counter()
    for moment in moments(rate, seconds, draw):
        time.sleep(max(0.0, started + moment - time.perf_counter()))
        due.put(started + moment)
    for _ in threads:
        due.put(None)
    for thread in threads:
        thread.join()
    found.seconds = time.perf_counter() - started
    return found


def moments(rate: float, seconds: float, draw: random.Random) -> list[float]:
    """Gives the moments of a Poisson process: the times between them are exponential."""
    found: list[float] = []
    moment = draw.expovariate(rate)
    while moment < seconds:
        found.append(moment)
        moment += draw.expovariate(rate)
    return found


def _send(client: Client, service: Service) -> tuple[float, str]:
    """Sends one request; gives its latency and the kind of error, "" for none."""
    try:
        answer = client.infer(service.model, service.request)
    except ServingError as error:
        return 0.0, "no answer" if error.status is None else f"status {error.status}"
    return answer.latency_s, ""


def _count(stretch: Stretch, sent: tuple[float, str]) -> None:
    latency_s, error = sent
    if error:
        stretch.errors[error] += 1
    else:
        stretch.latencies.append(latency_s)
