"""What is asked of the appliance under attack, and whether it holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from app.limits import MAX_BODY_BYTES
from tools.bench.results import Result, Row
from tools.bench.rivals import ALONE, ASKED, BUSY, Heard
from tools.sizes import format_size

DURING: Final = "during"
HOLDS: Final = "criterion holds"

KEPT_BYTES: Final = MAX_BODY_BYTES
"""What an allocator may keep after an attack: as much as one largest body."""

HEADERS: Final = (
    "attack",
    "p50 / p99 alone",
    "p99, cores busy",
    "p50 / p99 during",
    "p99 ÷ cores busy",
    "errors",
    "of them 503",
    "new connections failed",
    "attackers were answered",
    "memory before / most / after",
    "criterion",
)


@dataclass(frozen=True, slots=True)
class Stretch:
    """What was noticed in one stretch of time.

    Attributes:
        heard: by the quiet client on its one connection.
        arrivals: what clients got that connected anew meanwhile.
    """

    heard: Heard
    arrivals: Heard


@dataclass(frozen=True, slots=True)
class Endured:
    """One attack in one round.

    Attributes:
        stretch: what was noticed meanwhile.
        seen: what attackers were answered.
        before_bytes, most_bytes, after_bytes: resident memory of the appliance; after means when
            all attackers are gone and it says itself that it holds nothing more.
        idle_s: how long that took.
    """

    stretch: Stretch
    seen: Counter[str]
    before_bytes: int
    most_bytes: int
    after_bytes: int
    idle_s: float


def criterion_rows(
    labels: dict[str, str], busy: Sequence[Stretch], endured: Sequence[Endured]
) -> Iterator[Row]:
    """Gives 1 when everything that is asked holds; else 0, and in the note what doesn't.

    Args:
        labels: of the rows.
        busy: stretches without the attack, the cores busy with something that asks nothing.
        endured: as many stretches during the attack.
    """
    heard = [each.stretch.heard for each in endured]
    refused = tuple(float(each.errors["status 503"]) for each in heard)
    yield Row(labels, "errors with 503", "", refused)
    found = list(_broken(busy, endured))
    yield Row(labels, HOLDS, "", (0.0 if found else 1.0,), "; ".join(found))


def _broken(busy: Sequence[Stretch], endured: Sequence[Endured]) -> Iterator[str]:
    heard = [each.stretch.heard for each in endured]
    ratio = median(b.p99 / a.heard.p99 for a, b in zip(busy, heard, strict=True))
    if not any(each.latencies for each in heard):
        yield "no right answer"
    elif ratio > ASKED:
        yield f"p99 is {ratio:.2f} times that with busy cores"
    errors = sum(each.errors.total() for each in heard)
    if errors:
        yield f"{errors} errors"
    failed = sum(each.stretch.arrivals.errors.total() for each in endured)
    came = failed + sum(len(each.stretch.arrivals.latencies) for each in endured)
    if failed:
        yield f"{failed} of {came} new connections failed"
    kept_bytes = endured[-1].after_bytes - endured[0].before_bytes
    if kept_bytes > KEPT_BYTES:
        yield f"{format_size(kept_bytes)} of memory kept"


def verdicts(result: Result) -> list[tuple[str, ...]]:
    """Gives a line for each attack of a result, with a cell for each of `HEADERS`."""
    return [_cells(result, row) for row in result.select(HOLDS)]


def verdict(row: Row) -> str:
    """Says whether the criterion holds, and else why not."""
    return "holds" if row.median else f"doesn't hold: {row.note}"


def _cells(result: Result, holds: Row) -> tuple[str, ...]:
    labels = {name: text for name, text in holds.labels.items() if name != "when"}

    def middle(metric: str, when: str, unit: float = 1.0) -> str:
        (row,) = result.select(metric, **labels, when=when) or (None,)
        return f"{row.median * unit:.3g}" if row is not None and row.samples else "none"

    def total(metric: str) -> str:
        return f"{sum(sum(row.samples) for row in result.select(metric, **labels, when=DURING)):g}"

    def both(when: str) -> str:
        return f"{middle('p50', when, 1e3)} / {middle('p99', when, 1e3)} ms"

    answers = result.select("attackers' answers", **labels)
    memory = ("memory before", "memory, most", "memory after")
    return (
        labels["attack"],
        both(ALONE),
        f"{middle('p99', BUSY, 1e3)} ms",
        both(DURING),
        middle("p99 ratio to busy cores", DURING),
        total("errors"),
        total("errors with 503"),
        total("new connections that failed"),
        ", ".join(f"{row.labels['answer']}: {sum(row.samples):g}" for row in answers),
        " / ".join(middle(metric, DURING, 2**-20) for metric in memory) + " MiB",
        verdict(holds),
    )
