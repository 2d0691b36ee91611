"""What one quiet client notices while others attack, and what attacks leave in memory."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Final

from tools.bench.attackers import ALWAYS_RIGHT, ATTACKS, Attack, attack
from tools.bench.campaign import Case, Step
from tools.bench.client import Client, encoded, picture
from tools.bench.criterion import DURING, Endured, Stretch, criterion_rows
from tools.bench.hostile import Target
from tools.bench.load import Service
from tools.bench.newcomers import newcomers
from tools.bench.packed import serving
from tools.bench.process_tree import look, watched
from tools.bench.results import Row
from tools.bench.rivals import (
    ALLIES,
    ALONE,
    BUSY,
    QUIET,
    RIVAL,
    Heard,
    Prepared,
    busy_cores,
    latency_rows,
    listen,
    listen_regularly,
    prepare,
    ratio_rows,
    rival,
)
from tools.bench.runner import SEED
from tools.bench.sites import Site, ordinary_requests
from tools.bench.subjects import Subject
from tools.bench.watch import Gauges

INTERVAL_S: Final = 0.01
"""Between two requests of the quiet client, or twice what one takes where that is longer."""

WARM_S: Final = 1.0
"""Of the quiet client's requests before anything counts: memory grows until it has what it needs
for every worker."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How long.

    Attributes:
        seconds: length of one stretch.
        rounds: stretches without and during an attack, in an order drawn anew.
        threads: of onnxruntime.
        scratch: folder for bundle and image; the next run empties it.
    """

    seconds: float
    rounds: int
    threads: int
    scratch: Path


def cases_of(
    name: str, find: Callable[[str], Subject], settings: Settings, chosen: Sequence[str]
) -> list[Case]:
    """Gives a case for each attack on one model; those of one site share an image."""

    def place_of(site: Site) -> Path:
        return settings.scratch / f"{name}-{site.name.lower()}"

    @cache
    def prepared(site: Site) -> Prepared:
        return prepare(find(name), settings.threads, place_of(site), site)

    def case(number: int, attack_: Attack) -> Case:
        return Case(
            f"{name}, {attack_.name}",
            3 * settings.rounds,
            lambda step: _measure_packed(
                prepared(attack_.site), number, settings, place_of(attack_.site), step
            ),
        )

    return [case(number, each) for number, each in enumerate(ATTACKS) if each.name in chosen]


def _measure_packed(
    prepared: Prepared, number: int, settings: Settings, place: Path, step: Step
) -> list[Row]:
    """A fresh appliance for each attack, so that memory is what this one takes."""
    with serving(prepared.packed, place / "appliance.log") as (running, endpoint):
        services = {name: prepared.service(endpoint, name) for name in (QUIET, RIVAL)}
        if ATTACKS[number].sends_pictures:
            services[QUIET] = replace(services[QUIET], request=picture())
        return measure(prepared, services, running.process_id, number, settings, step)


def measure(  # noqa: PLR0917 - who, whom, where, what, how long and how far
    prepared: Prepared,
    services: dict[str, Service],
    process_id: int,
    number: int,
    settings: Settings,
    step: Step,
) -> list[Row]:
    """Measures a quiet client without and during one attack.

    Args:
        prepared: the image.
        services: what each tenant asks.
        process_id: whose descendants the appliance is.
        number: place in `ATTACKS`.
        settings: how long.
        step: called after each stretch.

    Raises:
        ServingError: the server doesn't answer one request, or tells no metrics.
        BenchmarkError: it still holds something long after the attack.
    """
    quiet = services[QUIET]
    with Client(quiet.endpoint) as first:
        runtime = first.infer(quiet.model, quiet.request).runtime
    with Client(services[RIVAL].endpoint) as other:
        for model, inputs in ordinary_requests(ATTACKS[number].site):
            other.infer(model, encoded(inputs))
    interval_s = max(INTERVAL_S, 2 * listen(quiet, WARM_S).p50)
    draw = random.Random(SEED)  # noqa: S311 - an order, not a secret
    alone: list[Stretch] = []
    busy: list[Stretch] = []
    endured: list[Endured] = []

    def notice() -> Stretch:
        with newcomers(quiet) as arrivals:
            heard = listen_regularly(quiet, settings.seconds, interval_s)
        return Stretch(heard, arrivals)

    def be_alone() -> None:
        alone.append(notice())

    def be_on_busy_cores() -> None:
        with busy_cores():
            busy.append(notice())

    def be_attacked() -> None:
        endured.append(_endure(prepared, services, process_id, number, notice))

    stretches = (be_alone, be_on_busy_cores, be_attacked)
    for _ in range(settings.rounds):
        for stretch in draw.sample(stretches, len(stretches)):
            stretch()
            step()
    labels = {**prepared.labels, "runtime": runtime, "attack": ATTACKS[number].name}
    return list(_rows(labels, ATTACKS[number], alone, busy, endured))


def _endure(
    prepared: Prepared,
    services: dict[str, Service],
    process_id: int,
    number: int,
    notice: Callable[[], Stretch],
) -> Endured:
    allied = tuple(prepared.tokens[name] for name in ALLIES)
    target = Target(prepared.packed.model, prepared.inputs, prepared.tokens[RIVAL], allied)
    with Gauges(services[QUIET].endpoint) as gauges:
        gauges.wait_until_idle()
        before = look(process_id, None).resident_bytes
        with watched(process_id, None) as samples:
            with rival(None, attack, number, services[RIVAL].endpoint, target) as end:
                stretch = notice()
                seen = end()
            idle_s = gauges.wait_until_idle()
        after = look(process_id, None).resident_bytes
    most = max(each.resident_bytes for each in samples)
    return Endured(stretch, seen, before, most, after, idle_s)


def _rows(
    labels: dict[str, str],
    of: Attack,
    alone: Sequence[Stretch],
    busy: Sequence[Stretch],
    endured: Sequence[Endured],
) -> Iterator[Row]:
    during = {**labels, "when": DURING}
    beside = [each.stretch for each in endured]
    for when, stretches in ((ALONE, alone), (BUSY, busy), (DURING, beside)):
        yield from latency_rows({**labels, "when": when}, [each.heard for each in stretches])
        yield from _arrival_rows({**labels, "when": when}, [each.arrivals for each in stretches])
    heard = [each.heard for each in beside]
    yield from ratio_rows(during, [each.heard for each in alone], heard)
    yield from ratio_rows(during, [each.heard for each in busy], heard, " to busy cores")
    yield from _answer_rows(during, of, endured)
    yield from _memory_rows(during, endured)
    yield from criterion_rows(during, busy, endured)


def _arrival_rows(labels: dict[str, str], arrivals: Sequence[Heard]) -> Iterator[Row]:
    latencies = tuple(each for heard in arrivals for each in heard.latencies)
    kinds = sum((heard.errors for heard in arrivals), Counter[str]())
    note = ", ".join(f"{kind}: {count}" for kind, count in sorted(kinds.items()))
    yield Row(labels, "new connection", "s", latencies, "" if latencies else "no right answer")
    failed = tuple(float(heard.errors.total()) for heard in arrivals)
    yield Row(labels, "new connections that failed", "", failed, note)


def _answer_rows(labels: dict[str, str], of: Attack, endured: Sequence[Endured]) -> Iterator[Row]:
    seen = [each.seen for each in endured]
    outcomes = sorted({outcome for each in seen for outcome in each})
    for outcome in outcomes:
        counts = tuple(float(each[outcome]) for each in seen)
        yield Row({**labels, "answer": outcome}, "attackers' answers", "", counts)
    wrong = {outcome for outcome in outcomes if outcome not in of.right | ALWAYS_RIGHT}
    counts = tuple(float(sum(each[outcome] for outcome in wrong)) for each in seen)
    note = f"expected {', '.join(sorted(of.right | ALWAYS_RIGHT))}"
    yield Row(labels, "wrong answers to attackers", "", counts, note)


def _memory_rows(labels: dict[str, str], endured: Sequence[Endured]) -> Iterator[Row]:
    def row(metric: str, values: Sequence[float], note: str = "") -> Row:
        return Row(labels, metric, "bytes", tuple(map(float, values)), note)

    after = [each.after_bytes for each in endured]
    yield row("memory before", [each.before_bytes for each in endured])
    yield row("memory, most", [each.most_bytes for each in endured])
    yield row("memory after", after, "attackers gone, nothing held by the appliance's metrics")
    yield row("growth of the first round", [after[0] - endured[0].before_bytes])
    later = [after[-1] - after[0]] if len(after) > 1 else []
    yield row("growth from the second round on", later, "" if later else "one round only")
    yield Row(labels, "time until idle", "s", tuple(each.idle_s for each in endured))
