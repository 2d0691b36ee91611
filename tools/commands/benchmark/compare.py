"""tools/benchmark.py compare: two result files side by side."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

from rich import box
from rich.table import Table

from tools.bench.comparison import TOLERANCE, Change, Comparison, compare
from tools.bench.drawing.report import formatted
from tools.bench.results import Result, read_result
from tools.command_line import DONE, NO
from tools.commands.arguments import positive
from tools.commands.benchmark.options import Commands, new_command
from tools.console import say, terminal

_DESCRIPTION = """\
Compares two result files row by row: medians, their ratio, and whether the
difference exceeds the noise. The ratio's interval is a bootstrap of both files'
samples, made wider for the number of rows; a difference counts when the whole
interval lies beyond the tolerance around 1.

Exit status: 0 no difference beyond noise, 1 there is one."""

_FEWEST_COLUMNS = 120


def add(commands: Commands) -> None:
    """Adds the subcommand."""
    command = new_command(commands, "compare", "two result files side by side", _DESCRIPTION)
    command.add_argument("first", type=Path, metavar="FILE", help="a .json of results/")
    command.add_argument("second", type=Path, metavar="FILE", help="another one")
    command.add_argument(
        "--tolerance",
        type=positive,
        default=TOLERANCE,
        metavar="SHARE",
        help="difference that two runs of one commit may show (%(default)s)",
    )
    command.add_argument("--all", action="store_true", help="show equal rows too")
    command.set_defaults(run=_compare)


def _compare(options: Namespace) -> int:
    first, second = read_result(options.first), read_result(options.second)
    for line in _warnings(first, second):
        say(f"note: {line}", error=True)
    found = compare(first, second, options.tolerance)
    shown = found.changes if options.all else found.differences
    console = terminal()
    console.width = max(console.width, _FEWEST_COLUMNS)
    if shown:
        console.print(_table(shown))
    console.print(_verdict(found, options.tolerance))
    return NO if found.differences else DONE


def _warnings(first: Result, second: Result) -> Iterator[str]:
    if first.machine != second.machine:
        yield "the machines differ, so the difference may be theirs"
    if first.versions != second.versions:
        names = [
            name
            for name in {**first.versions, **second.versions}
            if first.versions.get(name) != second.versions.get(name)
        ]
        yield f"other versions of {', '.join(names)}"
    if first.settings != second.settings:
        yield "the settings differ"
    if first.partial or second.partial:
        yield "a run was stopped before its end"


def _table(shown: tuple[Change, ...]) -> Table:
    table = Table(box=box.SIMPLE, pad_edge=False)
    for heading in ("what", "quantity"):
        table.add_column(heading)
    for heading in ("first", "second", "ratio", "interval", ""):
        table.add_column(heading, justify="right", no_wrap=True)
    for change in shown:
        interval = change.interval
        table.add_row(
            ", ".join(f"{name} {value}" for name, value in change.row.labels.items()),
            change.row.metric,
            formatted(change.first, change.row.unit),
            formatted(change.second, change.row.unit),
            f"{change.ratio:.3f}",
            f"{interval[0]:.3f} … {interval[1]:.3f}" if interval else "too few samples",
            "differs" if change.is_difference else "",
        )
    return table


def _verdict(found: Comparison, tolerance: float) -> str:
    tested = sum(change.interval is not None for change in found.changes)
    lines = [
        f"{len(found.changes)} rows in both files, {tested} with enough samples to tell, "
        f"tolerance {tolerance:.0%}"
    ]
    for where, rows in (("first", found.only_first), ("second", found.only_second)):
        if rows:
            lines.append(f"{len(rows)} rows are in the {where} file alone")
    count = len(found.differences)
    lines.append(f"{count} differences beyond noise" if count else "no difference beyond noise")
    return "\n".join(lines)
