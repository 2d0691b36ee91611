"""Pictures of what a check of accuracy found. Plain numbers in, figures out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from tools.figures.style import COLOURS, GREY, figure, legend_above

_EQUAL: Final = 1e-12
"""Where equal bits are drawn on a logarithmic axis, which has no 0."""

_TOP: Final = 1e2
"""Differences beyond it, infinite ones too, are drawn there."""

_SPREAD: Final = 0.28
"""Half the width over which the dots of one rung are spread."""


def rung_differences(rungs: Mapping[str, Sequence[float]], tolerance: float) -> Figure:
    """Draws the relative difference of every input on every rung.

    Args:
        rungs: differences by rung, in order; 0 is equal bits.
        tolerance: what the rung within a tolerance accepts.
    """
    made, axes = figure(7.5, 3.6)
    for place, found in enumerate(rungs.values()):
        heights = [min(max(each, _EQUAL), _TOP) for each in found]
        offsets = np.linspace(-_SPREAD, _SPREAD, len(heights)) if len(heights) > 1 else [0.0]
        equal = sum(each == 0 for each in found)
        axes.scatter(place + np.asarray(offsets), heights, s=16, color=COLOURS["blue"], zorder=3)
        axes.annotate(
            f"{equal} of {len(found)} equal",
            (place, _EQUAL),
            xytext=(0, 9),
            textcoords="offset points",
            ha="center",
            fontsize=8,
            color=GREY,
        )
        axes.set_xlim(-0.6, place + 0.6)
    axes.axhline(tolerance, color=COLOURS["vermillion"], linestyle="--", linewidth=1.2)
    axes.annotate(
        f"accepted for deployed: {tolerance:g}",
        (0, tolerance),
        xytext=(4, 3),
        textcoords="offset points",
        xycoords=("axes fraction", "data"),
        fontsize=8,
        color=COLOURS["vermillion"],
    )
    axes.set_yscale("log")
    axes.set_ylim(_EQUAL / 5, _TOP * 3)
    names = ["equal\nbits", "1e-9", "1e-6", "1e-3", "1", "100 and\nabove"]
    axes.set_yticks([_EQUAL, 1e-9, 1e-6, 1e-3, 1, _TOP], names)
    axes.minorticks_off()
    axes.set_xticks(range(len(rungs)), list(rungs))
    axes.set_xlabel("rung; one dot per input")
    axes.set_ylabel("largest difference / largest output")
    return made


def difference_histogram(identical: int, decades: Sequence[tuple[int, int]]) -> Figure:
    """Draws how many examples differ by how much.

    Args:
        identical: examples without any difference.
        decades: (d, n): n examples differ by 10^d to below 10^(d+1), relative to the largest
            output.
    """
    made, axes = figure(7.5, 3.2)
    counts = dict(decades)
    span = range(min(counts), max(counts) + 1) if counts else range(0)
    heights = [identical, *(counts.get(decade, 0) for decade in span)]
    names = ["none", *(f"1e{decade} to\n1e{decade + 1}" for decade in span)]
    colours = [COLOURS["green"], *[COLOURS["blue"]] * len(span)]
    bars = axes.bar(range(len(heights)), heights, color=colours, width=0.8)
    axes.bar_label(bars, fontsize=8, color=GREY, padding=2)
    axes.set_xlim(-0.8, max(len(heights), 4) - 0.2)
    axes.set_xticks(range(len(heights)), names)
    axes.set_xlabel("largest difference / largest output")
    axes.set_ylabel("examples")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(y=0.15)
    return made


def confusion_matrix(counts: Sequence[Sequence[int]], labels: Sequence[str]) -> Figure:
    """Draws which class was named how often for which.

    Args:
        counts: [true class, named class].
        labels: one per class; long ones are cut.
    """
    matrix = np.array(counts, dtype=np.float64)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    side = max(4.0, 0.42 * len(matrix) + 1.6)
    made, axes = figure(side + 0.8, side)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for true in range(len(matrix)):
        for named in range(len(matrix)):
            if matrix[true, named]:
                dark = shares[true, named] > 0.55
                axes.text(
                    named,
                    true,
                    f"{int(matrix[true, named])}",
                    ha="center",
                    va="center",
                    fontsize=8,
                    color="white" if dark else "black",
                )
    names = [_short(label) for label in labels]
    axes.set_xticks(range(len(names)), names, rotation=0 if _narrow(names) else 90)
    axes.set_yticks(range(len(names)), names)
    axes.grid(visible=False)
    axes.set_xlabel("class named by the partitions")
    axes.set_ylabel("true class")
    bar = made.colorbar(image, ax=axes, shrink=0.8)
    bar.set_label("share of the true class")
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.0f} %"))
    return made


def class_recall(
    labels: Sequence[str], reference: Sequence[float], partitions: Sequence[float]
) -> Figure:
    """Draws the share of each class that is recognised, by both.

    Args:
        labels: one per class shown, from the top; long ones are cut.
        reference: recall of each in the whole model, 0 to 1.
        partitions: recall of each in the partitions.
    """
    made, axes = figure(7.5, 1.3 + 0.36 * len(labels))
    places = np.arange(len(labels))
    for values, shift, colour, name in (
        (reference, -0.2, COLOURS["sky"], "reference"),
        (partitions, 0.2, COLOURS["blue"], "partitions"),
    ):
        widths = 100 * np.asarray(values)
        bars = axes.barh(places + shift, widths, 0.38, color=colour, label=name)
        texts = [f"{100 * value:.1f}" for value in values]
        axes.bar_label(bars, texts, fontsize=7, color=GREY, padding=2)
    axes.set_yticks(places, [_short(label) for label in labels])
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.set_xlim(0, 107)
    axes.set_xticks(range(0, 101, 20))
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x")
    axes.set_xlabel("recall in %")
    axes.set_ylabel("class")
    legend_above(axes)
    return made


def _short(label: str) -> str:
    return label if len(label) <= 18 else f"{label[:17]}…"


def _narrow(names: Sequence[str]) -> bool:
    return max(map(len, names), default=0) <= 3
