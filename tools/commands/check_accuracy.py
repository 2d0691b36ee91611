"""tools/check_accuracy.py: proves that partitions compute what the whole model computes."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import asdict
from math import isfinite
from pathlib import Path

from rich.console import Console
from rich.table import Table

from app.errors import ApplianceError
from tools.accuracy.ladder import RUNGS, ModelReport, Rung, climb
from tools.command_line import DONE, NO, parser, progress, run
from tools.errors import AccuracyError
from tools.model_folder import find_folders, open_folder

DESCRIPTION = """\
Proves that the partitions of a model compute what the whole model computes.

Each rung changes one thing, so the first one that fails says what is wrong:
  files      every file is the one the plan was made with
  cut        partitions, optimisations off: bit-exact with the whole model
  format     the same from an encrypted bundle: bit-exact
  deployed   the bundle as it is shipped, optimised: within a tolerance
Compared are labelled pictures (samples/), seeded random and structured inputs.

Exit status: 0 when every rung of every model holds, 1 when one doesn't."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; gives its exit status."""
    options = _parser().parse_args(argv)
    return run(lambda: _check(options))


def _parser() -> ArgumentParser:
    found = parser("tools/check_accuracy.py", DESCRIPTION)
    found.add_argument(
        "folder", type=Path, help="a folder of model folders such as partitions/, or one of them"
    )
    found.add_argument("--model", metavar="NAME", help="only this model of the folder")
    found.add_argument("--json", action="store_true", help="print JSON instead of tables")
    found.add_argument("--quiet", action="store_true", help="print nothing but failures")
    return found


def _check(options: Namespace) -> int:
    paths = find_folders(options.folder)
    if options.model:
        names = [path.name for path in paths]
        paths = [path for path in paths if path.name == options.model]
        if not paths:
            raise AccuracyError(f"no model {options.model!r} there, only {', '.join(names)}")
    results = [(path, _check_one(path, options)) for path in paths]
    if options.json:
        _print_json(results)
    else:
        _print_tables(results, quiet=options.quiet)
    passed = all(isinstance(report, ModelReport) and report.passed for _, report in results)
    return DONE if passed else NO


def _check_one(path: Path, options: Namespace) -> ModelReport | ApplianceError:
    """One broken model doesn't keep the others from being checked."""
    try:
        with progress(path.name, len(RUNGS), quiet=options.quiet) as step:
            return climb(open_folder(path), step)
    except ApplianceError as error:
        return error


def _print_json(results: Sequence[tuple[Path, ModelReport | ApplianceError]]) -> None:
    models = [
        {"name": path.name, "passed": False, "error": str(report)}
        if isinstance(report, ApplianceError)
        else {**asdict(report), "passed": report.passed}
        for path, report in results
    ]
    print(
        json.dumps(
            {"passed": all(m["passed"] for m in models), "models": _finite(models)}, indent=1
        )
    )


def _finite(value: object) -> object:
    """JSON has no infinity; a difference that can't be measured is null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def _print_tables(
    results: Sequence[tuple[Path, ModelReport | ApplianceError]], *, quiet: bool
) -> None:
    for path, report in results:
        if isinstance(report, ApplianceError):
            print(f"{path.name}: FAILED: {report}", file=sys.stderr)
            continue
        if not quiet:
            _print_table(report)
        for rung in report.rungs:
            if rung.passed is False:
                print(f"{path.name}: FAILED at rung {rung.name}: {rung.problem}", file=sys.stderr)


def _print_table(report: ModelReport) -> None:
    table = Table(title=f"{report.name}: {report.partitions} partitions", title_justify="left")
    table.add_column("rung")
    table.add_column("asked")
    for heading in ("inputs", "max. diff.", "relative", "top-1", "result"):
        table.add_column(heading, justify="right")
    for rung in report.rungs:
        table.add_row(*_row(rung))
    console = Console()
    console.print(table)
    if report.whole_accuracy is not None:
        deployed = _percent(report.deployed_accuracy)
        console.print(
            f"accuracy on {report.labelled} labelled pictures: "
            f"whole model {_percent(report.whole_accuracy)}, deployed {deployed}"
        )


def _row(rung: Rung) -> tuple[str, ...]:
    result = {True: "[green]holds[/]", False: "[bold red]FAILED[/]", None: "not reached"}
    if not rung.cases:
        return rung.name, rung.criterion, "", "", "", "", result[rung.passed]
    return (
        rung.name,
        rung.criterion,
        str(rung.cases),
        f"{rung.absolute:.2g}",
        f"{rung.relative:.2g}",
        _percent(rung.top1_agreement),
        result[rung.passed],
    )


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.4g} %"
