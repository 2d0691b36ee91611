"""What one quiet client notices while others attack, and what attacks leave in memory."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from tools.bench.attackers import ALWAYS_RIGHT, ATTACKS, Attack, attack
from tools.bench.campaign import Case, Step
from tools.bench.client import Client
from tools.bench.hostile import Target
from tools.bench.load import Service
from tools.bench.packed import serving
from tools.bench.process_tree import look, watched
from tools.bench.results import Row
from tools.bench.rivals import (
    ALONE,
    BUSY,
    QUIET,
    RIVAL,
    Heard,
    Prepared,
    latency_rows,
    listen,
    listen_on_busy_cores,
    prepare,
    ratio_rows,
    rival,
)
from tools.bench.runner import SEED
from tools.bench.subjects import Subject
from tools.bench.watch import Gauges

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


@dataclass(frozen=True, slots=True)
class Endured:
    """One attack in one round.

    Attributes:
        heard: by the quiet client meanwhile.
        seen: what attackers were answered.
        before_bytes, most_bytes, after_bytes: resident memory of the appliance; after means when
            all attackers are gone and it says itself that it holds nothing more.
        idle_s: how long that took.
    """

    heard: Heard
    seen: Counter[str]
    before_bytes: int
    most_bytes: int
    after_bytes: int
    idle_s: float


def cases_of(
    name: str, find: Callable[[str], Subject], settings: Settings, chosen: Sequence[str]
) -> list[Case]:
    """Gives a case for each attack on one model; they share an image, which the first builds."""
    place = settings.scratch / f"{name}-attacks"
    prepared = cache(lambda: prepare(find(name), settings.threads, place))

    def case(number: int, title: str) -> Case:
        return Case(
            f"{name}, {title}",
            3 * settings.rounds,
            lambda step: _measure_packed(prepared(), number, settings, place, step),
        )

    return [case(number, each.name) for number, each in enumerate(ATTACKS) if each.name in chosen]


def _measure_packed(
    prepared: Prepared, number: int, settings: Settings, place: Path, step: Step
) -> list[Row]:
    """A fresh appliance for each attack, so that memory is what this one takes."""
    with serving(prepared.packed, place / "appliance.log") as (running, endpoint):
        services = {name: prepared.service(endpoint, name) for name in (QUIET, RIVAL)}
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
    listen(quiet, WARM_S)
    draw = random.Random(SEED)  # noqa: S311 - an order, not a secret
    alone: list[Heard] = []
    busy: list[Heard] = []
    endured: list[Endured] = []
    stretches: tuple[Callable[[], None], ...] = (
        lambda: alone.append(listen(quiet, settings.seconds)),
        lambda: busy.append(listen_on_busy_cores(quiet, settings.seconds)),
        lambda: endured.append(_endure(prepared, services, process_id, number, settings.seconds)),
    )
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
    seconds: float,
) -> Endured:
    target = Target(prepared.packed.model, prepared.inputs, prepared.tokens[RIVAL])
    with Gauges(services[QUIET].endpoint) as gauges:
        gauges.wait_until_idle()
        before = look(process_id, None).resident_bytes
        with watched(process_id, None) as samples:
            with rival(None, attack, number, services[RIVAL].endpoint, target) as end:
                heard = listen(services[QUIET], seconds)
                seen: Counter[str] = end()
            idle_s = gauges.wait_until_idle()
        after = look(process_id, None).resident_bytes
    most = max(each.resident_bytes for each in samples)
    return Endured(heard, seen, before, most, after, idle_s)


def _rows(
    labels: dict[str, str],
    endured_one: Attack,
    alone: Sequence[Heard],
    busy: Sequence[Heard],
    endured: Sequence[Endured],
) -> Iterator[Row]:
    during = {**labels, "when": "during"}
    heard = [each.heard for each in endured]
    yield from latency_rows({**labels, "when": ALONE}, alone)
    yield from latency_rows({**labels, "when": BUSY}, busy)
    yield from latency_rows(during, heard)
    yield from ratio_rows(during, alone, heard)
    yield from ratio_rows(during, busy, heard, " to busy cores")
    yield from _answer_rows(during, endured_one, [each.seen for each in endured])
    yield from _memory_rows(during, endured)


def _answer_rows(labels: dict[str, str], of: Attack, seen: Sequence[Counter[str]]) -> Iterator[Row]:
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
