"""What the subcommands of tools/benchmark.py share."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from argparse import _SubParsersAction as SubParsersAction
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

from rich.table import Table

from tools.bench.campaign import Case, run_cases
from tools.bench.criterion import HEADERS, verdicts
from tools.bench.drawing.album import pictures, save_all
from tools.bench.drawing.picture import Picture
from tools.bench.drawing.report import write_page
from tools.bench.machine import new_result
from tools.bench.results import Result, write_result
from tools.bench.subjects import ZOO, Subject, find_subject
from tools.command_line import DONE, INTERRUPTED, NO
from tools.commands.arguments import count, positive
from tools.console import say, terminal
from tools.launcher import ROOT

Commands: TypeAlias = "SubParsersAction[ArgumentParser]"
SCRATCH: Final = ROOT / "build" / "bench"
Album: TypeAlias = tuple[Result, Sequence[Picture]]
"""A result and its figures."""

SMALL: Final = ("digits", "squeezenet-1.1", "mobilenet-v2")
"""The models that are measured unless others are named."""


def new_command(commands: Commands, name: str, title: str, description: str) -> ArgumentParser:
    """Adds a subcommand whose help keeps its line breaks."""
    found: ArgumentParser = commands.add_parser(
        name, help=title, description=description, formatter_class=RawDescriptionHelpFormatter
    )
    return found


def add_common(command: ArgumentParser, models: Sequence[str] = SMALL) -> None:
    """Adds the options of everything that measures models."""
    command.add_argument(
        "--models",
        nargs="+",
        default=list(models),
        metavar="NAME",
        help="models of the zoo or of partitions/ (%(default)s)",
    )
    command.add_argument(
        "--zoo",
        type=Path,
        default=ZOO,
        metavar="FOLDER",
        help="where the zoo's models are, or are made (build/zoo)",
    )
    command.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("results"),
        metavar="FOLDER",
        help="where results go (%(default)s)",
    )
    command.add_argument("--quiet", action="store_true", help="no progress, no tables")


def add_threads(command: ArgumentParser, default: Sequence[int]) -> None:
    """Adds --threads for several numbers."""
    command.add_argument(
        "--threads",
        nargs="+",
        type=count,
        default=list(default),
        metavar="N",
        help="threads of onnxruntime (%(default)s)",
    )


def add_seconds(command: ArgumentParser, default: float, of: str = "a stretch") -> None:
    """Adds --seconds."""
    command.add_argument(
        "--seconds",
        type=positive,
        default=default,
        metavar="N",
        help=f"length of {of} (%(default)s)",
    )


def add_rounds(command: ArgumentParser, default: int) -> None:
    """Adds --rounds."""
    command.add_argument(
        "--rounds",
        type=count,
        default=default,
        metavar="N",
        help="counted rounds (%(default)s)",
    )


def finder(options: Namespace) -> Callable[[str], Subject]:
    """Gives what finds a model by name."""
    return partial(find_subject, zoo=options.zoo)


def stamp() -> str:
    """Gives date and time for the names of files."""
    return datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")


def measure(
    options: Namespace,
    subcommand: str,
    settings: dict[str, str],
    cases: Sequence[Case],
    when: str,
) -> Album:
    """Runs the cases, and writes the result with its figures."""
    result = new_result(subcommand, settings)
    run_cases(result, cases, quiet=options.quiet)
    path = options.output / f"{when}-{subcommand}"
    write_result(result, path)
    return drawn(result, path)


def drawn(result: Result, path: Path) -> Album:
    """Draws a result and writes its figures beside it."""
    found = pictures(result)
    save_all(found, path)
    return result, found


def finish(options: Namespace, albums: Sequence[Album], page: Path) -> int:
    """Writes the page, says what failed and where everything is; gives the exit status."""
    write_page(page, albums)
    results = [result for result, _ in albums]
    failures = [failure for result in results for failure in result.failures]
    for failure in failures:
        say(f"not measured: {failure.case}: {failure.reason}", error=True)
    if not options.quiet:
        for result in results:
            _print_verdicts(result)
        terminal().print(f"results and figures: {page.parent}, all on one page: {page}")
    if any(result.partial for result in results):
        say("stopped: what was finished is written and marked as partial", error=True)
        return INTERRUPTED
    return NO if failures else DONE


def _print_verdicts(result: Result) -> None:
    """Says of each attack whether what is asked of the appliance holds."""
    lines = verdicts(result)
    if not lines:
        return
    table = Table(title="a quiet client under attack")
    for header in HEADERS:
        table.add_column(header)
    for line in lines:
        table.add_row(*line)
    terminal().print(table)
