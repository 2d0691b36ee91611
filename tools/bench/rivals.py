"""One quiet client, and others beside it in a process of their own that give way to everything.

The others would be on other machines. Here they share two things with the appliance: the
processor, so they run where nothing else wants to, and the loopback interface, so they come from
an address of their own.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any, Final

from app.access.policy import Policy, Tenant
from app.tensors import TensorSpec, dtype_name
from tools.access_policy import make_token, render_policy
from tools.bench.children import Tell, child, receive
from tools.bench.client import Client, Endpoint, Request, encoded
from tools.bench.load import Service
from tools.bench.packed import PackedModel, build_image
from tools.bench.results import Row
from tools.bench.runner import SEED, fresh_keys, request_of
from tools.bench.sites import Site, companions
from tools.bench.spread import percentile
from tools.bench.subjects import Cut, Subject, encrypted, in_budget
from tools.errors import ServingError
from tools.files import write_file
from tools.model_folder import CARD_FILE

QUIET: Final = "quiet"
RIVAL: Final = "rival"
ALLIES: Final = ("ally-1", "ally-2")
"""The tenants: who is measured, who disturbs, and who may help with that."""

ASKED: Final = 2.0
"""What the quiet client's p99 may at most be of its value alone."""

ALONE: Final = "alone"
BUSY: Final = "alone, cores busy"
"""Stretches without others that ask the appliance."""

_BLOCK_BYTES: Final = 1 << 20
_P50: Final = 0.5
_P99: Final = 0.99


@dataclass(frozen=True, slots=True)
class Prepared:
    """An image and its tenants.

    Attributes:
        packed: the image.
        inputs: what its model takes.
        request: what is asked.
        tokens: by tenant.
        labels: of all rows.
    """

    packed: PackedModel
    inputs: tuple[TensorSpec, ...]
    request: Request
    tokens: dict[str, str]
    labels: dict[str, str]

    def service(self, endpoint: Endpoint, tenant: str) -> Service:
        """Gives what a tenant asks."""
        trust = replace(endpoint.trust, token=self.tokens[tenant])
        return Service(Endpoint(endpoint.url, trust), self.packed.model, self.request)


@dataclass(slots=True)
class Heard:
    """What a client got.

    Attributes:
        latencies: from the first byte sent to the last one read.
        inside: what of each the server names in its answer: from a worker's start to its end.
        errors: how many of each kind.
    """

    latencies: list[float] = field(default_factory=list)
    inside: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)

    @property
    def p50(self) -> float:
        """Median latency; infinite without an answer."""
        return percentile(self.latencies, _P50) if self.latencies else float("inf")

    @property
    def p99(self) -> float:
        """Latency that 1 % exceed; infinite without an answer."""
        return percentile(self.latencies, _P99) if self.latencies else float("inf")


def prepare(subject: Subject, threads: int, place: Path, site: Site = Site.PLAIN) -> Prepared:
    """Builds an image that knows the tenants.

    Args:
        subject: the model.
        threads: of onnxruntime.
        place: folder for all of it; emptied first.
        site: what stands beside the model.

    Raises:
        ImageBuildError: with what the build said.
    """
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    target = place / subject.name
    card = subject.source.with_name(CARD_FILE)
    if card.exists():  # it says whether the model takes pictures
        target.mkdir()
        shutil.copyfile(card, target / CARD_FILE)
    folder = in_budget(subject, None, {target: Cut(threads=threads)})[0]
    policy = place / "access.json"
    tokens = _write_policy(policy)
    there = companions(site, folder.plan.budget_bytes, place)
    keys = fresh_keys()
    packed = build_image(
        folder,
        encrypted(folder, place / "bundle", keys),
        place / "packed",
        threads,
        access_policy=policy,
        beside={
            each.model_id: encrypted(each, place / f"{each.model_id}.bundle", keys)
            for each in there.folders
        },
        budget_bytes=there.budget_bytes,
    )
    inputs = request_of(folder, SEED)
    specs = tuple(
        TensorSpec(name, dtype_name(array), array.shape) for name, array in inputs.items()
    )
    labels = {
        "model": subject.name,
        "threads": str(threads),
        "plan budget": str(folder.plan.budget_bytes),
    }
    request = encoded(inputs)
    whole = Request([b"".join(request.body)], request.headers)  # views can't go to a process
    return Prepared(packed, specs, whole, tokens, labels)


def _write_policy(path: Path) -> dict[str, str]:
    """Writes a policy of tenants without quotas; gives their tokens."""
    made = {name: make_token("benchmark") for name in (QUIET, RIVAL, *ALLIES)}
    quiet, others = frozenset({"infer", "metrics"}), frozenset({"infer"})
    tenants = [
        Tenant(name, None, quiet if name == QUIET else others, tokens=(record,))
        for name, (_, record) in made.items()
    ]
    write_file(path, render_policy(Policy(tuple(tenants))))
    return {name: token for name, (token, _) in made.items()}


def listen(service: Service, seconds: float) -> Heard:
    """Asks one request after the other on one connection, in the calling thread."""
    found = Heard()
    with Client(service.endpoint) as client:
        ask(client, service, Heard())  # connects, uncounted
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            ask(client, service, found)
    return found


def listen_regularly(service: Service, seconds: float, interval_s: float) -> Heard:
    """Asks at regular moments on one connection, in the calling thread.

    A client that only asks again when it was answered hardly notices an appliance that stands
    still: that is one long request among hundreds of short ones. Here each moment that passes
    while an answer is awaited counts as a request that waited from then on for the same answer.

    Args:
        service: whom to ask what.
        seconds: how long.
        interval_s: between two moments.
    """
    found = Heard()
    with Client(service.endpoint) as client:
        ask(client, service, Heard())  # connects, uncounted
        started, moment = time.perf_counter(), 0
        moments = max(1, round(seconds / interval_s))
        while moment < moments:
            time.sleep(max(0.0, started + moment * interval_s - time.perf_counter()))
            answers = len(found.latencies)
            ask(client, service, found)
            answered = time.perf_counter()
            moment += 1
            while moment < moments and started + moment * interval_s < answered:
                if len(found.latencies) > answers:
                    waited_s = answered - (started + moment * interval_s)
                    found.latencies.append(waited_s)
                    found.inside.append(min(found.inside[-1], waited_s))
                moment += 1
    return found


def ask(client: Client, service: Service, found: Heard) -> None:
    """Sends one request and notes what came of it."""
    try:
        answer = client.infer(service.model, service.request)
    except ServingError as error:
        found.errors["no answer" if error.status is None else f"status {error.status}"] += 1
        return
    found.latencies.append(answer.latency_s)
    found.inside.append(answer.phases.get("total", 0.0))


@contextmanager
def rival(
    core: int | None, work: Callable[..., object], *args: object
) -> Iterator[Callable[[], Any]]:
    """Runs clients beside the block, from when they are connected.

    Args:
        core: they run on it alone; None: where the kernel likes.
        work: function of a module that is given a function to call once when its clients are
            connected, an event to end at, and the arguments.
        *args: pickled.

    Yields:
        What ends them and gives what `work` returned.

    Raises:
        BenchmarkError: it raised.
    """
    ended = get_context("spawn").Event()
    with child(_compete, ended, core, work, *args) as messages:
        receive(messages)

        def end() -> object:
            ended.set()
            return receive(messages)[1]

        yield end


def _compete(
    tell: Tell, ended: Event, core: int | None, work: Callable[..., object], *args: object
) -> object:
    # Of threads that are only nice, one that wakes may have to wait for the next tick.
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    if core is not None:
        os.sched_setaffinity(0, {core})
    stop = threading.Event()

    def wait() -> None:
        ended.wait()
        stop.set()

    threading.Thread(target=wait, name="end", daemon=True).start()
    return work(lambda: tell(None), stop, *args)


@contextmanager
def busy_cores(core: int | None = None) -> Iterator[None]:
    """Keeps cores busy during the block with something that asks the appliance nothing.

    Args:
        core: the one to keep busy; None: all.
    """
    with rival(core, compute) as end:
        yield
        end()


def compute(ready: Callable[[], object], stop: threading.Event) -> None:
    """Keeps all cores busy until the stop, without asking anything of anybody."""
    block = bytes(_BLOCK_BYTES)

    def work() -> Iterator[None]:
        while True:
            hashlib.sha256(block)  # lets go of the interpreter's lock
            yield

    together(ready, stop, [work() for _ in os.sched_getaffinity(0)])


def together(
    ready: Callable[[], object], stop: threading.Event, acts: Sequence[Iterator[None]]
) -> None:
    """Lets clients act, each in a thread of its own, until the stop.

    Args:
        ready: called when each has acted once.
        stop: ends it; an act that runs is waited for.
        acts: one for each client; each step is one act.
    """
    first = threading.Barrier(len(acts) + 1)

    def run(act: Iterator[None]) -> None:
        try:
            next(act)
        except BaseException:
            first.abort()
            raise
        first.wait()
        for _ in act:
            if stop.is_set():
                return

    threads = [threading.Thread(target=run, args=(act,), name="rival") for act in acts]
    for thread in threads:
        thread.start()
    first.wait()
    ready()
    for thread in threads:
        thread.join()


def latency_rows(labels: dict[str, str], found: Sequence[Heard]) -> Iterator[Row]:
    """Gives what one client noticed in several stretches of one kind."""
    kinds = sum((heard.errors for heard in found), Counter[str]())
    note = ", ".join(f"{kind}: {count}" for kind, count in sorted(kinds.items()))
    yield Row(labels, "errors", "", tuple(float(heard.errors.total()) for heard in found), note)
    latencies = [each for heard in found for each in heard.latencies]
    if not latencies:
        yield Row(labels, "latency", "s", (), "no right answer")
        return
    yield Row(labels, "latency", "s", tuple(round(each, 6) for each in latencies))
    yield Row(labels, "p50", "s", tuple(heard.p50 for heard in found if heard.latencies))
    yield Row(labels, "p99", "s", tuple(heard.p99 for heard in found if heard.latencies))
    pooled = (percentile(latencies, _P99),)
    yield Row(labels, "p99 of all rounds", "s", pooled, f"of {len(latencies)} answers")
    inside = [each for heard in found for each in heard.inside]
    outside = [a - b for a, b in zip(latencies, inside, strict=True)]
    for name, part in (("inside a worker", inside), ("outside of it", outside)):
        yield Row(labels, f"{name}, p50", "s", (percentile(part, _P50),))
        yield Row(labels, f"{name}, p99", "s", (percentile(part, _P99),))


def ratio_rows(
    labels: dict[str, str], alone: Sequence[Heard], beside: Sequence[Heard], to: str = ""
) -> Iterator[Row]:
    """Gives how much longer one client waits with the others than without.

    Args:
        labels: of the rows.
        alone: what it is compared with, a stretch a round.
        beside: as many stretches.
        to: what `alone` is called where there are several.
    """
    pairs = [(a, b) for a, b in zip(alone, beside, strict=True) if a.latencies and b.latencies]
    missing = "" if pairs else "no right answer"
    ratios = tuple(b.p99 / a.p99 for a, b in pairs)
    yield Row(labels, f"p99 ratio{to}", "", ratios, missing or "round by round")
    if pairs:
        pooled = [
            percentile([each for heard in found for each in heard.latencies], _P99)
            for found in (beside, alone)
        ]
        yield Row(labels, f"p99 ratio{to} of all rounds", "", (pooled[0] / pooled[1],))
