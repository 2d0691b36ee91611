"""tools/partition.py: cuts a model into partitions that run inside a budget."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from app.errors import InputError
from app.manifest import OPTIMIZATIONS
from tools.command_line import DONE, parser, progress, run
from tools.model_folder import write_folder
from tools.planner.plan import Plan
from tools.planner.planner import OBJECTIVES, plan_for_budget, plan_for_count
from tools.preparation import prepare, tile_size
from tools.sizes import format_size, parse_size

DESCRIPTION = """\
Cuts an ONNX model into partitions that run one after another inside a memory budget.

Writes a model's folder: the whole model, plan.json, and one checked ONNX file
for each partition. An existing folder keeps its model.json and samples."""

EPILOG = """\
examples:
  tools/partition.py resnet50.onnx -o partitions/resnet50 --budget 85MiB
  tools/partition.py bert.onnx -o partitions/bert --budget 64MiB --dim sequence=128
  tools/partition.py digits.onnx -o partitions/digits --partitions 4"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; gives its exit status."""
    options = _parser().parse_args(argv)
    return run(lambda: _partition(options))


def _parser() -> ArgumentParser:
    found = parser("tools/partition.py", DESCRIPTION, EPILOG)
    found.add_argument("model", type=Path, metavar="MODEL.onnx", help="the whole model")
    found.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FOLDER", help="the model's folder"
    )
    how = found.add_mutually_exclusive_group()
    how.add_argument(
        "--budget",
        type=parse_size,
        default=parse_size("85MiB"),
        metavar="SIZE",
        help="bound on all model memory, as 85MiB (the default: what a first-generation SGX "
        "machine leaves to one enclave)",
    )
    how.add_argument(
        "--partitions", type=_count, metavar="N", help="cut into exactly N, weights spread evenly"
    )
    found.add_argument(
        "--dim",
        type=_dimension,
        action="append",
        default=[],
        metavar="NAME=SIZE",
        help="plan a symbolic dimension with this size instead of 1; may be repeated",
    )
    found.add_argument(
        "--objective",
        choices=OBJECTIVES,
        default="time",
        help="what to make small inside the budget: the time of a request (default), or the number "
        "of partitions",
    )
    found.add_argument(
        "--threads",
        type=_count,
        default=1,
        metavar="N",
        help="threads that a run will use (1); with one, the next weights are decrypted meanwhile",
    )
    found.add_argument(
        "--optimization",
        choices=OPTIMIZATIONS,
        default="extended",
        help="onnxruntime rewrites done before cutting: extended (default) runs on any CPU, all is "
        "faster and for CPUs like this one, none changes nothing",
    )
    found.add_argument("--quiet", action="store_true", help="print nothing but errors")
    return found


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise ArgumentTypeError(f"expected a number of partitions from 1, got {text!r}")
    return int(text)


def _dimension(text: str) -> tuple[str, int]:
    name, found, size = text.rpartition("=")
    if not found or not name or not size.isdigit() or int(size) < 1:
        raise ArgumentTypeError(f"expected NAME=SIZE with a size from 1, got {text!r}")
    return name, int(size)


def _dimensions(given: Sequence[tuple[str, int]]) -> dict[str, int]:
    found = dict(given)
    if len(found) != len(given):
        raise InputError("--dim: a dimension is given twice")
    return found


def _partition(options: Namespace) -> int:
    tile_bytes = None if options.partitions else tile_size(options.budget)
    prepared = prepare(
        options.model, options.optimization, _dimensions(options.dim), tile_bytes=tile_bytes
    )
    model, summary = prepared.model, prepared.summary
    overlap = options.threads == 1
    lanes = options.threads
    if options.partitions:
        plan = plan_for_count(summary, options.partitions, overlap=overlap, lanes=lanes)
    else:
        plan = plan_for_budget(
            summary, options.budget, objective=options.objective, overlap=overlap, lanes=lanes
        )
    plan = prepared.plan(plan)
    with progress("writing partitions", len(plan.partitions), quiet=options.quiet) as done:
        written = write_folder(options.model, model, plan, options.output, done)
    if not options.quiet:
        _show(written, options.output, summary.unsized())
    return DONE


def _show(plan: Plan, output: Path, unsized: Sequence[str]) -> None:
    table = Table(
        title=f"{output}: {len(plan.partitions)} partitions",
        title_justify="left",
        box=box.SIMPLE,
        pad_edge=False,
        padding=(0, 1),
    )
    for heading in ("file", "nodes", "weights", "boundary", "inside", "time"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("up to", no_wrap=True)
    total_ns = sum(each.run_ns for each in plan.partitions)
    for each in plan.partitions:
        table.add_row(
            each.file,
            str(each.stop - each.start),
            format_size(each.weights_bytes),
            format_size(each.boundary_bytes),
            format_size(each.activation_bytes),
            f"{100 * each.run_ns / total_ns:.0f} %",
            _tail(each.last_node),
        )
    console = Console()
    console.print(table)
    console.print(
        f"predicted peak {format_size(plan.peak_bytes)} of {format_size(plan.budget_bytes)}"
    )
    if unsized:
        console.print(
            f"note: the size of {len(unsized)} values isn't known before they are computed, as of "
            f"{unsized[0]!r}; they aren't in the prediction"
        )


def _tail(name: str, longest: int = 14) -> str:
    """The end of a node's name says more than its beginning."""
    return name if len(name) <= longest else "…" + name[1 - longest :]
