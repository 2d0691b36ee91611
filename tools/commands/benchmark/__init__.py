"""tools/benchmark.py: measures speed, memory, load; draws and compares what was measured."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

from tools.bench.subjects import names
from tools.command_line import parser, run
from tools.commands.benchmark import compare, hostile, report, runner, standard, suites

DESCRIPTION = """\
Measures speed, memory and load, and draws what it measured.

Every subcommand writes results/TIME-NAME.json with all samples, a .csv, figures
as .png and .svg, and a page TIME-NAME.html with all of them and the method.
What is compared is measured in turn in one run.

Each has its own --help. Exit status: 0 done, 1 a case failed or a difference
was found, 2 wrong usage, 3 the environment isn't as it must be, 130 stopped by
Ctrl-C; what was finished by then is written and marked as partial."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; gives its exit status."""
    found = _parser()
    options = found.parse_args(argv)
    if unknown := _unknown_models(options):
        found.error(f"there is no model {', '.join(unknown)}; there are {', '.join(names())}")
    return run(lambda: int(options.run(options)))


def _parser() -> ArgumentParser:
    found = parser("tools/benchmark.py", DESCRIPTION)
    commands = found.add_subparsers(required=True, metavar="COMMAND")
    suites.add_all(commands)
    hostile.add_all(commands)
    runner.add(commands)
    standard.add(commands)
    compare.add(commands)
    report.add(commands)
    return found


def _unknown_models(options: Namespace) -> list[str]:
    """Models that can't be measured here; with --url they are the appliance's own."""
    if getattr(options, "url", None):
        return []
    return [name for name in getattr(options, "models", ()) if name not in names()]
