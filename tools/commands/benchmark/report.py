"""tools/benchmark.py report: draws result files again."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from tools.bench.results import read_result
from tools.commands.benchmark.options import Commands, drawn, finish, new_command

_DESCRIPTION = """\
Draws the figures of result files anew and puts them on one self-contained page."""


def add(commands: Commands) -> None:
    """Adds the subcommand."""
    command = new_command(commands, "report", "draw result files again", _DESCRIPTION)
    command.add_argument("files", nargs="+", type=Path, metavar="FILE", help=".json of results/")
    command.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("results/report.html"),
        metavar="PAGE",
        help="the page (%(default)s); figures go beside their result file",
    )
    command.add_argument("--quiet", action="store_true", help="print nothing but errors")
    command.set_defaults(run=_report)


def _report(options: Namespace) -> int:
    albums = [drawn(read_result(path), path.with_suffix("")) for path in options.files]
    return finish(options, albums, options.output)
