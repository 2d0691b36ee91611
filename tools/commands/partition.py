"""tools/partition.py: cuts a model into partitions that run inside a budget."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from app.errors import InputError
from app.manifest import OPTIMIZATIONS
from tools.command_line import DONE, NO, parser, phases, progress, run
from tools.commands.arguments import add_limits, count, together
from tools.commands.plan_tables import (
    explanation_table,
    measurement_table,
    plan_table,
    reasons,
    too_low,
)
from tools.confinement.child import Confinement
from tools.console import say, terminal
from tools.errors import NoFeasiblePlanError
from tools.figures.memory import memory_figure
from tools.figures.style import save
from tools.files import write_file
from tools.measurement.peaks import measure_plan, step_count
from tools.model_folder import open_folder, write_folder
from tools.planner.explain import explain
from tools.planner.isolation import read_isolated
from tools.planner.plan import PLAN_FILE, Plan
from tools.planner.planner import OBJECTIVES, plan_for_budget, plan_for_count
from tools.planner.summary import GraphSummary
from tools.preparation import PreparedModel, prepare, tile_size
from tools.sizes import format_size, parse_size

_MOST_TRIES: Final = 8
"""Budgets that are tried before a refusal names one."""

DESCRIPTION = """\
Cuts an ONNX model into partitions that run one after another inside a memory budget.

Writes a model's folder: the whole model, plan.json, and one checked ONNX file
for each partition. An existing folder keeps its model.json and samples.

A folder instead of a model is explained or measured as it is."""

EPILOG = """\
examples:
  tools/partition.py resnet50.onnx -o partitions/resnet50 --budget 85MiB
  tools/partition.py bert.onnx -o partitions/bert --budget 64MiB --dim sequence=128
  tools/partition.py digits.onnx -o partitions/digits --partitions 4
  tools/partition.py vgg19.onnx --budget 85MiB --dry-run --explain
  tools/partition.py partitions/resnet50 --explain --measure"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; gives its exit status."""
    usage = _parser()
    options = usage.parse_args(argv)
    if options.model.is_dir():
        if options.output or options.dry_run or not (options.explain or options.measure):
            usage.error("a model's folder takes --explain, --measure or both, and no --output")
        return run(lambda: _look_at(options, options.model), _needs(options, options.model))
    if not options.output and not options.dry_run:
        usage.error("the following arguments are required: -o/--output, or --dry-run")
    if options.dry_run and options.measure:
        usage.error("--measure runs what was written, so it doesn't go with --dry-run")
    written = None if options.dry_run else options.output
    return run(lambda: _partition(options), _needs(options, written))


def _needs(options: Namespace, written: Path | None) -> Confinement:
    return Confinement(
        models=[options.model],
        reads=[options.isolate] if options.isolate else [],
        folders=[written] if written else [],
        seconds=options.time_limit,
        memory_bytes=options.memory_limit,
    )


def _parser() -> ArgumentParser:
    found = parser("tools/partition.py", DESCRIPTION, EPILOG)
    found.add_argument(
        "model", type=Path, metavar="MODEL.onnx", help="the whole model, or a model's folder"
    )
    found.add_argument("-o", "--output", type=Path, metavar="FOLDER", help="the model's folder")
    _add_planning(found)
    found.add_argument(
        "--explain",
        action="store_true",
        help="say for each partition what it takes, what waits and why it ends there; with a "
        "folder, draw plan.svg and plan.png into it",
    )
    found.add_argument(
        "--measure",
        action="store_true",
        help="run each partition and the whole in fresh processes, write the measured peaks into "
        "plan.json; exit status 1 when one is above what was predicted",
    )
    found.add_argument("--dry-run", action="store_true", help="plan, write nothing")
    found.add_argument("--quiet", action="store_true", help="print nothing but errors")
    add_limits(found)
    return found


def _add_planning(found: ArgumentParser) -> None:
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
        "--partitions",
        type=count,
        metavar="N",
        help="cut into exactly N, weights spread evenly; no operator is tiled",
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
        type=count,
        default=1,
        metavar="N",
        help="threads that a run will use (1); with one, the next weights are decrypted meanwhile",
    )
    found.add_argument(
        "--lock-step",
        type=together,
        default=1,
        metavar="N",
        help="plan for N requests that run together and share each loading of weights (1): all "
        "have to fit the budget, and the time of all is what is made small; serve it with "
        "'occlum_image/build.sh --max-batch N'",
    )
    found.add_argument(
        "--isolate",
        type=Path,
        metavar="FILE",
        help="gives every operator of a list its own partition; 'tools/benchmark.py operators' "
        "writes such lists, of the names that --optimization none keeps",
    )
    found.add_argument(
        "--optimization",
        choices=OPTIMIZATIONS,
        default="extended",
        help="onnxruntime rewrites done before cutting: extended (default) runs on any CPU, all is "
        "faster and for CPUs like this one, none changes nothing",
    )


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
    try:
        prepared, plan = _planned(options)
    except NoFeasiblePlanError as error:
        raise _with_budget_that_works(options, error) from error
    if not options.dry_run:
        with progress("writing partitions", len(plan.partitions), quiet=options.quiet) as done:
            plan = write_folder(options.model, prepared.model, plan, options.output, done)
    if not options.quiet:
        _show(plan, str(options.output or options.model), prepared.summary)
        if options.output and not options.dry_run:
            name = open_folder(options.output).model_id
            say(f"the model's id is {name}: clients ask for it, and its key file is {name}.key")
    if options.dry_run:
        if options.explain:
            _explain(options, plan)
        return DONE
    return _look_at(options, options.output)


def _planned(options: Namespace) -> tuple[PreparedModel, Plan]:
    overlap = options.threads == 1
    if options.isolate and options.partitions:
        raise InputError("--isolate: needs --budget; --partitions N leaves no choice of cuts")
    with phases(quiet=options.quiet) as say:
        prepared = prepare(
            options.model,
            options.optimization,
            _dimensions(options.dim),
            tile_bytes=None if options.partitions else tile_size(options.budget, options.objective),
            budget_bytes=None if options.partitions else options.budget,
            lock_step=options.lock_step,
            say=say,
        )
        say("planning")
        if options.partitions:
            cutting = plan_for_count(
                prepared.summary,
                options.partitions,
                overlap=overlap,
                threads=options.threads,
                lock_step=options.lock_step,
            )
        else:
            cutting = plan_for_budget(
                prepared.summary,
                options.budget,
                objective=options.objective,
                overlap=overlap,
                threads=options.threads,
                lock_step=options.lock_step,
                isolated=read_isolated(options.isolate) if options.isolate else (),
            )
    return prepared, prepared.plan(cutting)


def _with_budget_that_works(options: Namespace, error: NoFeasiblePlanError) -> NoFeasiblePlanError:
    """Tries what a refusal asks for: another budget means other tiles, so it may not be enough."""
    asked_bytes, required_bytes = options.budget, error.required_bytes
    for _ in range(_MOST_TRIES):
        try:
            _planned(Namespace(**{**vars(options), "budget": required_bytes}))
        except NoFeasiblePlanError as again:
            required_bytes = max(again.required_bytes, required_bytes * 51 // 50)
        else:
            break
    return NoFeasiblePlanError(error.node, required_bytes, asked_bytes, error.reason)


def _look_at(options: Namespace, path: Path) -> int:
    """Measures and explains a folder, as far as that was asked for."""
    if not options.measure and not options.explain:
        return DONE
    folder = open_folder(path)
    plan = folder.plan
    if options.measure:
        with progress("measuring", step_count(plan), quiet=options.quiet) as done:
            plan = measure_plan(folder, done)
        write_file(path / PLAN_FILE, plan.to_text().encode())
    if options.explain:
        _explain(options, plan, path)
    return _judge(options, plan) if options.measure else DONE


def _explain(options: Namespace, plan: Plan, path: Path | None = None) -> None:
    explanation = explain(plan)
    if not options.quiet:
        console = terminal()
        console.print(explanation_table(plan, explanation))
        for line in reasons(plan):
            console.print(line, highlight=False)
    if path is None:
        return
    png, svg = save(memory_figure(path.name, plan, explanation), path / "plan")
    if not options.quiet:
        say(f"drawn: {png}, {svg}")


def _judge(options: Namespace, plan: Plan) -> int:
    if not options.quiet:
        terminal().print(measurement_table(plan))
    wrong = too_low(plan)
    for line in wrong:
        say(f"predicted too low: {line}")
    return NO if wrong else DONE


def _show(plan: Plan, name: str, summary: GraphSummary) -> None:
    console = terminal()
    console.print(plan_table(plan, name))
    of_batch = f" with {plan.lock_step} requests in lock step" if plan.lock_step > 1 else ""
    console.print(
        f"predicted peak{of_batch} {format_size(plan.peak_bytes)} of "
        f"{format_size(plan.budget_bytes)}"
    )
    unsized = summary.unsized()
    if unsized:
        console.print(
            f"note: the size of {len(unsized)} values isn't known before they are computed, as of "
            f"{unsized[0]!r}; they aren't in the prediction"
        )
