"""One self-contained page with all figures and tables, and the method in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from tools.bench.criterion import HEADERS, verdicts
from tools.bench.drawing.picture import Picture
from tools.bench.operators import above
from tools.bench.results import NOT_AVAILABLE, Result, Row, label_names
from tools.bench.spread import spread
from tools.figures.style import svg_text
from tools.report.page import Page
from tools.sizes import format_size

TITLES: Final[Mapping[str, str]] = {
    "modes": "Ways of keeping a model",
    "peers": "Whole models in other engines",
    "partitions": "Number of partitions, and budgets",
    "operators": "Operators alone",
    "planner": "Fewest partitions",
    "resources": "What the appliance uses",
    "load": "Load",
    "tenants": "One tenant beside another",
    "attacks": "Hostile clients",
    "runner": "The runner",
}

METHODS: Final[Mapping[str, str]] = {
    "modes": (
        "One request is sent again and again over TLS on the loopback interface, on a connection "
        "that stays open, and its time runs from before the first byte is sent until the last byte "
        "of the answer is read. All ways run behind the same TLS, HTTP and JSON code with the same "
        "number of onnxruntime threads; the packed image is a server of its own. Every round asks "
        "every way once with a warm and once with a cold page cache, in an order drawn anew; the "
        "first requests aren't counted. Before a warm request the files are read once; before a "
        "cold one the kernel is asked to forget their pages (posix_fadvise, DONTNEED), so it has "
        "to ask its disk: the disk's own cache, or that of a virtual machine's host, stays. What "
        "the deployed runner has already loaded ahead for the next request stays loaded, too. The "
        "outputs of all ways are compared before anything counts. The whole model from disk and "
        "the naive partitions decrypt with the same cipher library as the deployed ones, so that "
        "the comparison is of designs."
    ),
    "peers": (
        "The same ONNX file and the same input in three engines, in one process, in turn, from "
        "arrays to arrays. onnxruntime as it comes is the ceiling. tract is the engine of the "
        "closest published system; it runs from its Python package with fixed shapes and its own "
        "optimiser, which has no way to ask for two threads. Ours runs encrypted partitions in a "
        "third of the model's size; where activations alone need more, four partitions in the "
        "least memory that they can run in."
    ),
    "partitions": (
        "The same model cut in many ways, all open in one process and asked in turn; memory is the "
        "growth of resident memory over what the process had before, sampled every millisecond in "
        "a process of its own for each. A cut that isn't possible is listed with the reason."
    ),
    "operators": (
        "Each operator is cut out as a model of its own and gets what it gets in one run of the "
        "whole model. Both engines run it in turn. Memory is the rise of the process's peak while "
        "an engine opens and runs it once. The literature calls operators from a ratio of 12 on "
        "memory-intensive and gives them partitions of their own; its ratio compares inside and "
        "outside of an enclave, ours two engines on the same machine, because there is no enclave "
        "to measure in here. Our planner doesn't need the list: it predicts each operator's memory."
    ),
    "planner": (
        "Plans with the fewest partitions, and two bounds from below, both rounded up: bytes of "
        "weights by bytes of budget, which knows nothing of what else needs memory, and bytes of "
        "weights by what the budget leaves for them beside chunks, structures and working memory."
    ),
    "resources": (
        "Processor time and resident memory of the packed appliance with all its processes, every "
        "50 ms, while one client sends one request after another. Windows are consecutive; 1.0 "
        "core in use is one core all the time. Power is of the whole processor, by RAPL."
    ),
    "load": (
        "Clients run on the same machine and take a part of its processor. Closed loop: each sends "
        "its next request when it has its answer. Open loop: requests come at random moments "
        "whatever the server does, and latency counts from the moment at which a request was meant "
        "to be sent, so that waiting isn't omitted."
    ),
    "tenants": (
        "Two tenants of one access policy, without quotas. The first asks one request after the "
        "other on one connection; the second does nothing, or keeps many connections busy in the "
        "same way. Stretches alone and beside alternate in an order drawn anew. The second "
        "tenant's clients would be on other machines: here they run in a process of their own that "
        "the kernel lets run only where nothing else wants to (SCHED_IDLE), so that what the first "
        "one competes for is the "
        "appliance's work; what they take of the processor all the same counts against the "
        "appliance. 'Pinned' gives all clients one core and the appliance the others. The ratio "
        "is of p99 in the same round; p99 of all rounds together is given too. 'Inside a worker' "
        "is what the server names in its answer (Server-Timing), from a worker having the body to "
        "the encoded answer; 'outside of it' is the rest: TLS, the event loop, waiting for a "
        "worker, and the client itself."
    ),
    "attacks": (
        "A quiet client asks at regular moments on one connection, which it opens at the beginning "
        "of each stretch: every 10 ms, or after twice the time of a request where that is longer. "
        "Each moment that passes while it awaits an answer counts as a request that waited from "
        "then on for the same answer, so that an appliance which stands still for a second shows "
        "in the percentiles and not only as one slow request. Beside it, every two seconds, "
        "another client connects anew, asks once and leaves; its handshake and its body take "
        "round trips of 80 ms, as between continents. Attackers of other tenants, or without any "
        "credentials, from other addresses, repeat their attack meanwhile from a process of their "
        "own, reconnecting at once when they are dropped. A stretch begins when every attacker is "
        "there. The kernel lets the attackers' process run only where nothing else wants to "
        "(SCHED_IDLE), as they would be on other machines. They take from the processor's speed "
        "and caches all the same, so there is a control: stretches in which a process of the same "
        "kind computes on all cores and asks the appliance nothing. Stretches alone, with busy "
        "cores and during the attack follow one another in an order drawn anew each round. Asked "
        "is: p99 during the attack at most twice p99 with busy cores (the median over rounds); "
        "no error of the quiet client, a 503 included; no new connection that fails; and, after "
        "the last round, not more than 32 MiB of memory beyond what there was before the first. "
        "Each attack meets a fresh appliance. Memory is the resident memory of all its processes, "
        "every 50 ms; 'after' is when the attackers are gone and the appliance's own metrics name "
        "no connection, request or body but the asker's. What an attack makes the allocator keep "
        "shows in the first round; growth from the second round on tells whether memory is "
        "bounded. A wrong answer to attackers is any that isn't the expected status; being busy "
        "(503), asked for too often (429) or refused is always right."
    ),
}

_HIDDEN: Final = ("resident over time", "growth over time")
_MOST_ROWS: Final = 160
_TOP: Final = 15


def write_page(path: Path, albums: Sequence[tuple[Result, Sequence[Picture]]]) -> None:
    """Writes the page; the file appears whole or not at all."""
    first = albums[0][0]
    page = Page(
        "Benchmark",
        f"Measured {first.started} at commit {first.commit} on {first.machine['cores']} cores of "
        f"{first.machine['cpu']}.",
    )
    _begin(page, first)
    for result, pictures in albums:
        _section(page, result, pictures)
    page.write(path)


def _begin(page: Page, first: Result) -> None:
    page.paragraph(
        "Every number is a median of several measurements; quartiles say how far they spread: half "
        "of all measurements lie between them. What is compared was measured in turn in one run, "
        "so that a busy moment of the machine meets all alike. The result files beside this page "
        "hold every single measurement."
    )
    rows = [*first.machine.items(), *first.versions.items()]
    page.table(["what", "value"], rows, "Machine and versions.")


def _section(page: Page, result: Result, pictures: Sequence[Picture]) -> None:
    page.heading(TITLES.get(result.subcommand, result.subcommand))
    page.paragraph(METHODS.get(result.subcommand, ""))
    settings = ", ".join(f"{name}: {value}" for name, value in result.settings.items())
    page.paragraph(f"Settings: {settings or 'none'}.")
    if result.partial:
        page.paragraph("This run was stopped before its end: what follows is what was finished.")
    for failure in result.failures:
        page.paragraph(f"Not measured: {failure.case}: {failure.reason}")
    for picture in pictures:
        page.figure(svg_text(picture.figure), picture.alt, picture.caption)
    if result.subcommand == "operators":
        _operator_table(page, result)
        return
    lines = verdicts(result)
    if lines:
        page.table(HEADERS, lines, "What is asked of the appliance under attack.")
    _table(page, result.rows)


def _operator_table(page: Page, result: Result) -> None:
    found = above(result.rows, 0.0)[:_TOP]
    page.table(
        ["operator", "tract ÷ onnxruntime"],
        [(name, f"{ratio:.2f}") for name, ratio in found],
        "The operators with the largest ratios; the result file has all.",
        numeric={1},
    )


def _table(page: Page, rows: Sequence[Row]) -> None:
    shown = [row for row in rows if row.metric not in _HIDDEN]
    names = label_names(shown)
    headers = [*names, "quantity", "n", "median", "quartiles"]
    cells = [[*(row.labels.get(n, "") for n in names), *_cells(row)] for row in shown[:_MOST_ROWS]]
    left_out = len(shown) - len(cells)
    rest = f" {left_out} more rows are in the result file." if left_out else ""
    numeric = {len(names) + place for place in (1, 2, 3)}
    page.table(headers, cells, f"All quantities.{rest}", numeric=numeric)


def _cells(row: Row) -> Iterator[str]:
    yield row.metric
    if not row.samples:
        yield from ("0", row.note or NOT_AVAILABLE, "")
        return
    found = spread(row.samples)
    yield str(found.count)
    yield formatted(found.median, row.unit)
    yield f"{formatted(found.first, row.unit)} … {formatted(found.third, row.unit)}"


def formatted(value: float, unit: str) -> str:
    """Writes a number with its unit as people read it."""
    if unit == "s":
        return f"{value * 1e3:.3g} ms" if value < 1 else f"{value:.3g} s"
    if unit == "bytes":
        return ("-" if value < 0 else "") + format_size(abs(round(value)))
    return f"{value:.4g} {unit}".strip()
