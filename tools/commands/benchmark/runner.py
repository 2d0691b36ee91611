"""tools/benchmark.py runner: the runner against the same model resident in onnxruntime."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich import box
from rich.table import Table

from tools.bench.machine import machine, versions
from tools.bench.runner import Speed
from tools.bench.suite import BATCHES, BOUNDS, Row, Suite
from tools.command_line import DONE, NO
from tools.commands.arguments import count
from tools.commands.benchmark.options import Commands, new_command
from tools.console import say, terminal
from tools.errors import AccuracyError
from tools.files import write_file
from tools.sizes import format_size

_TABLE_WIDTH = 150

DESCRIPTION = """\
Measures the runner against the same model resident in onnxruntime.

Both ways run in turn in one process, with the same number of onnxruntime
threads; ratios are medians over the rounds. Memory is the peak of resident
growth over a process that has only imported everything, without a limit and
under a limit of the kernel's of budget and 5 %, with equal outputs.

Exit status: 0 when every ratio and budget holds, 1 when one doesn't.

examples:
  tools/benchmark.py runner
  tools/benchmark.py runner --models resnet-50 --threads 1 --naive-rounds 3
  tools/benchmark.py runner --models resnet-50 vgg-19 --batches 1 2 4 8 16"""


def add(commands: Commands) -> None:
    """Adds the subcommand."""
    runner = new_command(commands, "runner", "the runner against the resident model", DESCRIPTION)
    names = sorted({bound.model for bound in BOUNDS})
    runner.add_argument("--models", nargs="+", choices=names, default=names, metavar="NAME")
    runner.add_argument("--threads", nargs="+", type=count, default=[1, 2], metavar="N")
    runner.add_argument(
        "--batches",
        nargs="+",
        type=count,
        default=[1],
        metavar="N",
        help=f"requests in lock step, as {' '.join(map(str, BATCHES))}",
    )
    runner.add_argument("--rounds", type=count, default=15, metavar="N", help="counted rounds")
    runner.add_argument(
        "--naive-rounds",
        type=int,
        default=0,
        metavar="N",
        help="measure the naive design too, so often (0: not at all)",
    )
    runner.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("results/runner.json"),
        metavar="FILE",
        help="where the figures go (%(default)s)",
    )
    runner.add_argument("--quiet", action="store_true", help="no progress on stderr")
    runner.set_defaults(run=_runner)


def _runner(options: Namespace) -> int:
    tell = (lambda _: None) if options.quiet else (lambda text: say(text, error=True))
    suite = Suite(Path("build/bench"), options.rounds, options.naive_rounds, tell)
    bounds = tuple(bound for bound in BOUNDS if bound.model in options.models)
    if not bounds:
        raise AccuracyError("no model to measure")
    rows = list(suite.rows(bounds, tuple(options.threads), tuple(options.batches)))
    result = {
        "machine": machine() | versions(),
        "rounds": options.rounds,
        "rows": [asdict(row) for row in rows],
    }
    write_file(options.output, (json.dumps(result, indent=1) + "\n").encode())
    console = terminal()
    console.width = max(console.width, _TABLE_WIDTH)
    console.print(_table(rows))
    return DONE if all(_holds(row) for row in rows) else NO


def _holds(row: Row) -> bool:
    fits = row.limited is None or (row.memory is not None and _equal_outputs(row))
    return fits and (row.lock_step > 1 or row.speed.runner.ratio <= row.bound.accepted(row.threads))


def _equal_outputs(row: Row) -> bool:
    return (
        row.memory is not None
        and row.limited is not None
        and (row.memory.outputs == row.limited.outputs)
    )


def _table(rows: Sequence[Row]) -> Table:
    table = Table(title="runner ÷ resident model", title_justify="left", box=box.SIMPLE)
    for heading in (
        "model", "budget", "threads", "batch", "ratio", "quartiles", "asked", "naive",
        "decrypted", "waiting", "GB/s alone", "resident growth", "under the limit",
    ):  # fmt: skip
        table.add_column(heading, justify="left" if heading == "model" else "right")
    for row in rows:
        first, third = row.speed.runner.quartiles
        table.add_row(
            row.bound.model,
            format_size(row.bound.budget_bytes),
            str(row.threads),
            str(row.lock_step),
            f"{row.speed.runner.ratio:.2f}",
            f"{first:.2f} … {third:.2f}",
            f"{row.bound.accepted(row.threads):.2f}" if row.lock_step == 1 else "",
            f"{row.naive_ratio:.1f}" if row.naive_ratio else "",
            format_size(row.speed.decrypted_bytes),
            _waiting(row.speed),
            f"{row.speed.one_thread_rate / 1e9:.1f} / {row.speed.two_threads_rate / 1e9:.1f}",
            format_size(row.memory.growth_bytes) if row.memory else "",
            _limited(row),
        )
    return table


def _waiting(speed: Speed) -> str:
    """The share of a request that passes waiting for weights; the rest is computing."""
    return f"{100 * speed.wait_s / (speed.wait_s + speed.run_s):.0f} %"


def _limited(row: Row) -> str:
    if row.limited is None:
        return ""
    return f"{row.limited.held_by}: " + ("equal" if _equal_outputs(row) else "DIFFERS")
