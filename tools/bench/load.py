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
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from tools.bench.campaign import Case, Step
from tools.bench.client import Client, Endpoint, Request, encoded
from tools.bench.packed import build_image, serving
from tools.bench.process_tree import Sample, watched
from tools.bench.profile import Batches, Profile, phases_of, profile_rows, read_batches
from tools.bench.results import Row
from tools.bench.runner import SEED, request_of
from tools.bench.spread import percentile
from tools.bench.subjects import Cut, Subject, encrypted, in_budget
from tools.bench.watch import EVERY_S, memory_rows
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
        budget_bytes: of the partitions; None takes what `tools.bench.subjects.in_budget` says.
        lock_step: requests that the model is partitioned for, and that may run together.
        max_delay_us: how long one may be kept waiting for others; None for the image's default.
    """

    clients: Sequence[int]
    shares: Sequence[float]
    seconds: float
    rounds: int
    budget_bytes: int | None = None
    lock_step: int = 1
    max_delay_us: int | None = None


@dataclass(frozen=True, slots=True)
class Service:
    """What is asked, and how it is asked.

    Attributes:
        endpoint: the server.
        model: its id.
        request: what every client sends.
        process_id: whose descendants the server is; None where it can't be watched.
    """

    endpoint: Endpoint
    model: str
    request: Request
    process_id: int | None = None


@dataclass(frozen=True, slots=True)
class Sent:
    """One request and how it ended.

    Attributes:
        latency_s: 0 when there was no right answer.
        error: its kind, "" for none.
        phases: seconds by phase, as far as the server tells.
    """

    latency_s: float
    error: str = ""
    phases: Mapping[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Stretch:
    """What came of one stretch of load.

    Attributes:
        seconds: from its first request to its last answer.
        latencies: of the answers that were right.
        errors: how many of each kind weren't.
        phases: seconds of all answers, by phase.
        batches: that the model ran; None when the server doesn't tell.
        memory: of the server, looked at every second; empty where it can't be watched.
    """

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    phases: dict[str, float] = field(default_factory=dict)
    batches: Batches | None = None
    memory: Sequence[Sample] = ()

    @property
    def throughput(self) -> float:
        """Right answers per second."""
        return len(self.latencies) / self.seconds if self.seconds else 0.0

    @property
    def profile(self) -> Profile:
        """Where the time went."""
        return Profile(self.seconds, len(self.latencies), self.phases, self.batches)

    def count(self, sent: Sent) -> None:
        """Counts one request."""
        if sent.error:
            self.errors[sent.error] += 1
            return
        self.latencies.append(sent.latency_s)
        self._spend(sent.phases)

    def add(self, other: Stretch) -> None:
        """Adds what another client counted."""
        self.latencies += other.latencies
        self.errors += other.errors
        self._spend(other.phases)

    def _spend(self, phases: Mapping[str, float]) -> None:
        for phase, seconds in phases.items():
            self.phases[phase] = self.phases.get(phase, 0.0) + seconds


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
        cut = Cut(threads=threads, lock_step=settings.lock_step)
        folder = in_budget(subject, settings.budget_bytes, {place / subject.name: cut})[0]
        packed = build_image(
            folder,
            encrypted(folder, place / "bundle"),
            place / "packed",
            threads,
            max_batch=settings.lock_step if settings.lock_step > 1 else None,
            max_delay_us=settings.max_delay_us,
        )
        labels = {
            "threads": str(threads),
            "lock step": str(settings.lock_step),
            "plan budget": str(folder.plan.budget_bytes),
        }
        request = encoded(request_of(folder, SEED))
        with serving(packed, place / "appliance.log") as (running, endpoint):
            service = Service(endpoint, packed.model, request, running.process_id)
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
        settings.clients,
        settings,
        draw,
        lambda n: _watched(service, lambda: closed_loop(service, n, settings.seconds)),
        step,
    )
    best = max(each.throughput for found in closed.values() for each in found)
    if not best:
        raise BenchmarkError(f"{name}: no request of the closed loop was answered")
    opened = _levels(
        settings.shares,
        settings,
        draw,
        lambda share: _watched(
            service, lambda: open_loop(service, share * best, settings.seconds, draw)
        ),
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


def _watched(service: Service, put: Callable[[], Stretch]) -> Stretch:
    """Looks at the server's memory during a stretch."""
    if service.process_id is None:
        return put()
    with watched(service.process_id, None, EVERY_S) as samples:
        found = put()
    found.memory = samples
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
    yield from profile_rows(labels, [each.profile for each in found])
    yield from memory_rows(labels, [each.memory for each in found])


def closed_loop(service: Service, clients: int, seconds: float) -> Stretch:
    """Lets some clients ask, each again as soon as it has its answer."""
    found = Stretch()
    lock = threading.Lock()
    together = threading.Barrier(clients + 1)  # once all are connected, and once they may go

    def ask() -> None:
        mine = Stretch()
        with Client(service.endpoint) as client:
            _send(client, service)  # connects, uncounted
            together.wait()
            together.wait()
            end = time.perf_counter() + seconds
            while time.perf_counter() < end:
                mine.count(_send(client, service))
        with lock:
            found.add(mine)

    threads = [threading.Thread(target=ask, name="client") for _ in range(clients)]
    for thread in threads:
        thread.start()
    together.wait()
    before = read_batches(service.endpoint, service.model)
    together.wait()
    started = time.perf_counter()
    for thread in threads:
        thread.join()
    found.seconds = time.perf_counter() - started
    found.batches = _batches_since(before, service)
    return found


def _batches_since(before: Batches | None, service: Service) -> Batches | None:
    after = read_batches(service.endpoint, service.model)
    return after.since(before) if before and after else None


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
                sent = _send(client, service)
                late_s = time.perf_counter() - moment - sent.latency_s
                with lock:
                    found.count(_delayed(sent, late_s))

    threads = [threading.Thread(target=send, name="sender") for _ in range(SENDERS)]
    for thread in threads:
        thread.start()
    together.wait()
    before = read_batches(service.endpoint, service.model)
    started = time.perf_counter()
    for moment in moments(rate, seconds, draw):
        time.sleep(max(0.0, started + moment - time.perf_counter()))
        due.put(started + moment)
    for _ in threads:
        due.put(None)
    for thread in threads:
        thread.join()
    found.seconds = time.perf_counter() - started
    found.batches = _batches_since(before, service)
    return found


def _delayed(sent: Sent, late_s: float) -> Sent:
    """Counts a request from the moment at which it was meant to be sent."""
    return replace(sent, latency_s=sent.latency_s + late_s)


def moments(rate: float, seconds: float, draw: random.Random) -> list[float]:
    """Gives the moments of a Poisson process: the times between them are exponential."""
    found: list[float] = []
    moment = draw.expovariate(rate)
    while moment < seconds:
        found.append(moment)
        moment += draw.expovariate(rate)
    return found


def _send(client: Client, service: Service) -> Sent:
    try:
        answer = client.infer(service.model, service.request)
    except ServingError as error:
        return Sent(0.0, "no answer" if error.status is None else f"status {error.status}")
    return Sent(answer.latency_s, phases=phases_of(answer))
