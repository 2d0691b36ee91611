"""Plans as tables in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table

from tools.planner.explain import Explanation, Row, alone_bytes
from tools.planner.plan import Plan
from tools.sizes import format_size


def plan_table(plan: Plan, name: str) -> Table:
    """Shows what each partition is."""
    table = _table(
        f"{name}: {len(plan.partitions)} partitions",
        ("file", "nodes", "weights", "boundary", "inside", "time"),
    )
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
    return table


def explanation_table(plan: Plan, explanation: Explanation) -> Table:
    """Shows what lies in memory at each partition's turn, and how much of its loading is hidden.

    Workspace is a part of inside, and peak has all memory of the model. Inside is one request's,
    boundary, peak, time and hidden are of the whole batch.
    """
    table = _table(
        _held(explanation),
        ("", "weights", "boundary", "inside", "workspace", "peak", "time", "hidden"),
    )
    for row in explanation.rows:
        each = row.partition
        table.add_row(
            f"{each.index:03d}",
            format_size(each.weights_bytes),
            format_size(row.tensors_bytes),
            format_size(row.inside_bytes),
            format_size(each.workspace_bytes),
            format_size(row.peak_bytes),
            f"{100 * (row.run_ns + row.wait_ns) / (explanation.request_ns or 1):.1f} %",
            _hidden(row),
        )
    together = f"for {plan.lock_step} requests in lock step: " if plan.lock_step > 1 else ""
    table.caption = (
        f"{together}structures, chunks and stacks {format_size(explanation.structures_bytes)}; the "
        f"largest peak is {format_size(plan.peak_bytes)} of {format_size(plan.budget_bytes)}"
    )
    return table


def reasons(plan: Plan) -> list[str]:
    """Gives one line for each partition: up to where it goes, and why."""
    return [f"{each.index:03d} up to {each.last_node}: {each.why}" for each in plan.partitions]


def measurement_table(plan: Plan) -> Table:
    """Shows predicted and measured memory side by side."""
    table = _table("memory, each in a process of its own", ("", "predicted", "measured", "ratio"))
    for name, predicted, measured in _pairs(plan):
        table.add_row(
            name,
            format_size(predicted),
            format_size(measured),
            f"{predicted / measured:.2f}" if measured else "",
        )
    return table


def too_low(plan: Plan) -> list[str]:
    """Gives one line for every prediction below its measurement."""
    return [
        f"{name}: {predicted} bytes, measured {measured} bytes"
        for name, predicted, measured in _pairs(plan)
        if predicted < measured
    ]


def _pairs(plan: Plan) -> list[tuple[str, int, int]]:
    found = [
        (each.file, alone_bytes(plan, each), each.measured_bytes)
        for each in plan.partitions
        if each.measured_bytes is not None
    ]
    if plan.measured_bytes is not None:
        found.append(("the whole run", plan.peak_bytes, plan.measured_bytes))
    return found


def _held(explanation: Explanation) -> str:
    stay = sum(row.is_pinned for row in explanation.rows)
    if not explanation.slots:
        return "all weights stay in memory"
    return (
        f"{stay} of {len(explanation.rows)} partitions stay in memory "
        f"({format_size(explanation.pinned_bytes)}), the others pass through "
        f"{explanation.slots} × {format_size(explanation.slot_bytes)}"
    )


def _hidden(row: Row) -> str:
    """How much of the loading goes on behind computing."""
    if row.is_pinned:
        return "stays"
    return f"{100 * max(0, row.load_ns - row.wait_ns) / row.load_ns:.0f} %"


def _table(title: str, headings: Sequence[str]) -> Table:
    table = Table(
        title=title,
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE,
        pad_edge=False,
        padding=(0, 1),
    )
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _tail(name: str, longest: int = 14) -> str:
    """The end of a node's name says more than its beginning."""
    return name if len(name) <= longest else "…" + name[1 - longest :]
