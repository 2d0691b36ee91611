"""The picture of a plan: memory over the run against the budget."""

from __future__ import annotations

from itertools import accumulate
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from app.limits import MIB
from tools.figures.style import COLOURS, GREY, figure, legend_above, panels
from tools.planner.explain import Explanation
from tools.planner.plan import Plan
from tools.sizes import format_size

_WIDTH: Final = 10.0
_HEIGHT: Final = 5.2
_HEIGHT_OF_TWO: Final = 8.4

_MOST_WHOLE: Final = 2
"""Where the whole model takes more than so many budgets, the partitions get axes of their own."""

_MOST_NUMBERED: Final = 40
"""More partitions than this have no room for their numbers."""


def memory_figure(name: str, plan: Plan, explanation: Explanation) -> Figure:
    """Draws the predicted memory of every partition, in the time that it takes.

    Args:
        name: the model's.
        plan: its plan.
        explanation: of that plan.
    """
    edges = _edges(explanation)
    whole_bytes = max(explanation.whole_bytes(row) for row in explanation.rows)
    if whole_bytes <= _MOST_WHOLE * plan.budget_bytes:
        made, axes = figure(_WIDTH, _HEIGHT)
        shown = [axes]
    else:
        made, shown = panels(_WIDTH, _HEIGHT_OF_TWO, 1, 2)
    for axes in shown:
        _draw_layers(axes, explanation, edges)
        _draw_bounds(axes, plan)
        _number(axes, explanation, edges)
        axes.set_ylabel("memory / MiB")
        axes.set_xlim(0, edges[-1] or 1)
    _draw_whole(shown[0], explanation, edges)
    _label(shown, name, plan, explanation)
    return made


def _edges(explanation: Explanation) -> list[float]:
    """Where each partition begins and the last one ends, in per cent of a request."""
    total_ns = explanation.request_ns or 1
    spent = accumulate((row.wait_ns + row.run_ns for row in explanation.rows), initial=0)
    return [100 * each / total_ns for each in spent]


def _draw_layers(axes: Axes, explanation: Explanation, edges: list[float]) -> None:
    rows = explanation.rows
    layers = (
        ("structures and chunks", "black", [explanation.structures_bytes] * len(rows)),
        ("weights that stay", "blue", [explanation.pinned_bytes] * len(rows)),
        (
            "buffers for streamed weights",
            "sky",
            [explanation.slots * explanation.slot_bytes] * len(rows),
        ),
        ("boundary tensors", "orange", [row.tensors_bytes for row in rows]),
        ("activations and workspace", "vermillion", [row.inside_bytes for row in rows]),
    )
    below = [0.0] * len(rows)
    for label, colour, sizes in layers:
        if not any(sizes):
            continue
        top = [under + size / MIB for under, size in zip(below, sizes, strict=True)]
        axes.stairs(
            top, edges, baseline=below, fill=True, color=COLOURS[colour], alpha=0.85, label=label
        )
        below = top


def _draw_bounds(axes: Axes, plan: Plan) -> None:
    budget = plan.budget_bytes / MIB
    axes.axhline(budget, color="black", linestyle="--", linewidth=1.4, label="budget")
    measured = (plan.measured_bytes or 0) / MIB
    if measured:
        axes.axhline(measured, color=COLOURS["green"], linewidth=1.4, label="measured peak")
    axes.set_ylim(0, 1.06 * max(budget, measured))


def _draw_whole(axes: Axes, explanation: Explanation, edges: list[float]) -> None:
    whole = [explanation.whole_bytes(row) / MIB for row in explanation.rows]
    axes.stairs(
        whole,
        edges,
        baseline=None,
        color=GREY,
        linestyle=":",
        linewidth=1.6,
        label="whole model, resident",
    )
    axes.set_ylim(0, max(axes.get_ylim()[1], 1.06 * max(whole)))


def _label(shown: list[Axes], name: str, plan: Plan, explanation: Explanation) -> None:
    count = len(plan.partitions)
    shown[0].set_title(
        f"{name}: {count} partition{'s' if count > 1 else ''}, predicted peak "
        f"{format_size(plan.peak_bytes)} of {format_size(plan.budget_bytes)}"
    )
    for axes in shown[1:]:
        axes.set_title("The same without the whole model")
    streamed = sum(not row.is_pinned for row in explanation.rows)
    shown[-1].set_xlabel(
        f"predicted time of a request / %   ({count - streamed} partitions stay in memory, "
        f"{streamed} are streamed)"
    )
    legend_above(shown[0], columns=4)


def _number(axes: Axes, explanation: Explanation, edges: list[float]) -> None:
    """Marks where partitions begin, and numbers those that are wide enough."""
    width = edges[-1] or 1
    peaks = [row.peak_bytes / MIB for row in explanation.rows]
    for index, start in enumerate(edges[:-1]):
        if index:
            axes.vlines(start, 0, max(peaks[index - 1 : index + 1]), color="white", linewidth=0.6)
        if len(explanation.rows) <= _MOST_NUMBERED and edges[index + 1] - start > width / 50:
            axes.text(
                (start + edges[index + 1]) / 2,
                0.01,
                str(index),
                transform=axes.get_xaxis_transform(),
                color="white",
                fontsize=8,
                horizontalalignment="center",
                verticalalignment="bottom",
            )
