"""tools/make_zoo.py: makes well-known architectures at true size with seeded weights."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.table import Table

from tools.command_line import DONE, NO, parser, progress, run
from tools.console import say, terminal
from tools.model_folder import MODEL_FILE
from tools.sizes import format_size
from tools.zoo.check import Findings, check
from tools.zoo.folder import build, is_current
from tools.zoo.registry import ENTRIES, Entry, find

DESCRIPTION = """\
Makes well-known architectures at true size for benchmarks and tests.

The weights are seeded, not trained: outputs are finite and depend on the
input, but mean nothing. A model that is there already is kept as long as this
version would make the same one. Nothing is downloaded."""

EPILOG = """\
examples:
  tools/make_zoo.py --list
  tools/make_zoo.py resnet-50 vgg-19
  tools/make_zoo.py squeezenet-1.0 --check"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; gives its exit status."""
    options = _parser().parse_args(argv)
    return run(lambda: _list() if options.list else _make(options))


def _parser() -> ArgumentParser:
    found = parser("tools/make_zoo.py", DESCRIPTION, EPILOG)
    found.add_argument("names", nargs="*", metavar="NAME", help="models; all when none is named")
    found.add_argument("--list", action="store_true", help="show the models and make none")
    found.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("build/zoo"),
        metavar="FOLDER",
        help="where the models' folders go (default: build/zoo)",
    )
    found.add_argument("--force", action="store_true", help="make models anew that are there")
    found.add_argument(
        "--check",
        action="store_true",
        help="count each model's parameters, and run it on different inputs",
    )
    found.add_argument("--quiet", action="store_true", help="print nothing but errors")
    return found


def _list() -> int:
    table = _table("name", "parameters", "tolerance", left="model")
    for entry in ENTRIES:
        about = f"{entry.title} ({entry.note})" if entry.note else entry.title
        table.add_row(entry.name, f"{entry.parameters:,}", f"{entry.tolerance:.2%}", about)
    terminal().print(table)
    return DONE


def _make(options: Namespace) -> int:
    entries = [find(name) for name in options.names] or list(ENTRIES)
    for entry in entries:
        _make_one(entry, options)
    return _check_all(entries, options) if options.check else DONE


def _make_one(entry: Entry, options: Namespace) -> None:
    target = options.output / entry.name
    if not options.force and is_current(entry, target):
        _say(options, f"{target}: is there already")
        return
    operators = len(entry.define().operators)
    with progress(entry.name, operators, quiet=options.quiet) as done:
        build(entry, options.output, done)
    _say(options, f"{target}: made, {format_size((target / MODEL_FILE).stat().st_size)}")


def _check_all(entries: Sequence[Entry], options: Namespace) -> int:
    table = _table("name", "parameters", "file", "nodes", "spread", "rounding", left="verdict")
    problems: list[str] = []
    with progress("checking", len(entries), quiet=options.quiet) as done:
        for number, entry in enumerate(entries, start=1):
            found = check(entry, options.output / entry.name)
            problems += (f"{entry.name}: {problem}" for problem in found.problems)
            table.add_row(entry.name, *_row(found))
            done(number)
    if not options.quiet:
        terminal().print(table)
    for problem in problems:
        say(f"error: {problem}", error=True)
    return NO if problems else DONE


def _row(found: Findings) -> tuple[str, ...]:
    return (
        f"{found.parameters:,}",
        format_size(found.size_bytes),
        str(found.nodes),
        f"{found.spread:.2f}",
        f"{found.rounding:.0e}",
        "FAILED" if found.problems else "sound",
    )


def _table(name: str, *numbers: str, left: str) -> Table:
    table = Table(box=box.SIMPLE, padding=(0, 1, 0, 0))
    table.add_column(name, no_wrap=True)
    for heading in numbers:
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column(left)
    return table


def _say(options: Namespace, text: str) -> None:
    if not options.quiet:
        say(text)
