"""The charts of the benchmark: bars with quartiles, stacked parts, curves, courses over time.

They take plain numbers, so that a result file can be drawn again years later.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogFormatter, NullFormatter, NullLocator

from tools.figures.style import COLOURS, GREY, cycle, figure, panels

Drawing = Figure
"""The type, for modules that pass a figure on."""

_HATCHES: Final = ("", "///", "...", "xxx", "\\\\\\", "++", "oo", "--")
"""A second way to tell parts apart, for print without colours."""

_MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X", "*")
_MISSING: Final[dict[str, Any]] = {
    "va": "center",
    "color": GREY,
    "fontsize": 8,
    "zorder": 5,
    "bbox": {"facecolor": "white", "edgecolor": "none", "pad": 1.0},
}
_MOST_WHISKER: Final = 2.0
_BAR_ROW: Final = 0.42
"""Height of one horizontal bar in inches."""


@dataclass(frozen=True, slots=True)
class Middle:
    """A median with its quartiles."""

    first: float
    median: float
    third: float


@dataclass(frozen=True, slots=True)
class Curve:
    """A line with the band between its quartiles.

    Attributes:
        name: for the legend.
        x: places, ascending.
        middles: one for each place.
    """

    name: str
    x: Sequence[float]
    middles: Sequence[Middle]


@dataclass(frozen=True, slots=True)
class Scale:
    """How an axis looks.

    Attributes:
        label: with its unit.
        logarithmic: base 2 for counts and sizes along x, base 10 along y.
        end: where the axis ends; None: where the data end.
    """

    label: str
    logarithmic: bool = False
    end: float | None = None


@dataclass(frozen=True, slots=True)
class Course:
    """A quantity over time, and the bound that it is to keep."""

    name: str
    at_s: Sequence[float]
    values: Sequence[float]
    bound: float | None = None


def bars(
    title: str,
    note: str,
    series: Mapping[str, Mapping[str, Middle]],
    label: str,
    *,
    bound: tuple[float, str] | None = None,
    logarithmic: bool = False,
) -> Figure:
    """Draws horizontal bars in groups, with quartiles as whiskers and the median as a number.

    Args:
        title: of the figure.
        note: one line below it: what it ran in.
        series: for each series the middles by group; a group may miss in a series.
        label: of the values, with their unit.
        bound: a value to compare with, and its name.
        logarithmic: for values of several orders of magnitude; the axis begins at half of the
            smallest.
    """
    groups = list(dict.fromkeys(group for found in series.values() for group in found))
    rows = len(groups) * len(series)
    made, axes = figure(8, 1.7 + _BAR_ROW * (rows + 0.6 * len(groups)) * 0.75)
    height = 0.8 / len(series)
    middles = [each for found in series.values() for each in found.values()]
    farthest = _farthest(middles)
    start = min((each.first for each in middles), default=1.0) / 2 if logarithmic else 0.0
    for place, (name, found) in enumerate(series.items()):
        for row, group in enumerate(groups):
            middle = found.get(group)
            y = row + (place - (len(series) - 1) / 2) * height
            if middle is None:
                axes.text(start, y, " not available ", **_MISSING)
                continue
            _bar(axes, y, height, middle, place)
            right = min(middle.third, farthest)
            right = right * 1.05 if logarithmic else right + farthest * 0.012
            axes.text(right, y, _short(middle.median), va="center", fontsize=8)
        axes.barh(
            start, 0, color=cycle(place), hatch=_HATCHES[place], edgecolor="white", label=name
        )
    if bound is not None:
        axes.axvline(bound[0], color=GREY, linestyle="--", linewidth=1.2, label=bound[1])
    axes.set_yticks(range(len(groups)), groups)
    axes.set_ylim(len(groups) - 0.45, -0.55)
    if logarithmic:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        farthest = max((each.third for each in middles), default=1.0)
    axes.set_xlim(start, farthest * (2.5 if logarithmic else 1.16))
    axes.set_xlabel(label)
    axes.grid(visible=True, axis="x")
    axes.grid(visible=False, axis="y")
    _frame(made, title, note, columns=3)
    return made


def _farthest(middles: Sequence[Middle]) -> float:
    """Gives where the axis ends: a whisker far beyond all medians runs out of the picture."""
    medians = max((each.median for each in middles), default=1.0)
    return min(max((each.third for each in middles), default=1.0), _MOST_WHISKER * medians)


def _bar(axes: Axes, y: float, height: float, middle: Middle, place: int) -> None:
    axes.barh(
        y,
        middle.median,
        height * 0.92,
        color=cycle(place),
        hatch=_HATCHES[place],
        edgecolor="white",
    )
    whisker = [[middle.median - middle.first], [middle.third - middle.median]]
    axes.errorbar(middle.median, y, xerr=whisker, color="black", capsize=2.5, linewidth=1)


def stacked(
    title: str,
    note: str,
    columns: Mapping[str, Mapping[str, Mapping[str, float]]],
    label: str,
    order: Sequence[str],
) -> Figure:
    """Draws what values are made of: a panel a column, a bar a row, a colour a part.

    Args:
        title: of the figure.
        note: one line below it.
        columns: by panel, by bar: sizes by part, the first part at the axis.
        label: of the values, with their unit.
        order: of the parts; the last one is what isn't a part but a whole, drawn in grey.
    """
    rows = list(dict.fromkeys(name for column in columns.values() for name in column))
    there = {part for column in columns.values() for found in column.values() for part in found}
    parts = [part for part in order if part in there]
    made, axes = panels(9.5, 1.9 + _BAR_ROW * len(rows), len(columns), share_y=True)
    for each, (name, column) in zip(axes, columns.items(), strict=True):
        left = np.zeros(len(rows))
        for place, part in enumerate(parts):
            sizes = np.array([column.get(row, {}).get(part, 0.0) for row in rows])
            each.barh(
                range(len(rows)),
                sizes,
                0.72,
                left=left,
                color=GREY if part == order[-1] else cycle(place),
                hatch=_HATCHES[place % len(_HATCHES)],
                edgecolor="white",
                label=part,
            )
            left += sizes
        for row, total in enumerate(left):
            each.text(total * 1.01, row, f" {_short(total)}", va="center", fontsize=8)
        each.set_xlim(0, float(left.max()) * 1.2 or 1.0)
        each.set_xlabel(f"{name}: {label}")
        each.grid(visible=True, axis="x")
        each.grid(visible=False, axis="y")
    axes[0].set_yticks(range(len(rows)), rows)
    axes[0].set_ylim(len(rows) - 0.45, -0.55)
    _frame(made, title, note, columns=5)
    return made


def curves(
    title: str,
    note: str,
    shown: Sequence[tuple[Scale, Scale, Sequence[Curve]]],
    *,
    bounds: Mapping[int, tuple[float, str]] | None = None,
) -> Figure:
    """Draws curves side by side.

    Args:
        title: of the figure.
        note: one line below it.
        shown: for each panel its x axis, its y axis and its curves.
        bounds: by panel, a value on y to compare with, and its name.
    """
    made, axes = panels(4.9 * max(len(shown), 1.4), 4.2, len(shown))
    place = 0
    for number, (each, (x_scale, y_scale, found)) in enumerate(zip(axes, shown, strict=True)):
        for curve in found:
            _curve(each, curve, place)
            place += 1
        if bounds and number in bounds:
            value, name = bounds[number]
            each.axhline(value, color=GREY, linestyle="--", linewidth=1.2, label=name)
        _scale(each, x_scale, y_scale, sorted({x for curve in found for x in curve.x}))
    _frame(made, title, note, columns=4)
    return made


def _curve(axes: Axes, curve: Curve, place: int) -> None:
    medians = [middle.median for middle in curve.middles]
    colour = cycle(place)
    axes.plot(curve.x, medians, marker=_MARKERS[place % 8], color=colour, label=curve.name)
    axes.fill_between(
        curve.x,
        [middle.first for middle in curve.middles],
        [middle.third for middle in curve.middles],
        color=colour,
        alpha=0.2,
        linewidth=0,
    )


def _scale(axes: Axes, x_scale: Scale, y_scale: Scale, places: Sequence[float]) -> None:
    axes.set_xlabel(x_scale.label)
    axes.set_ylabel(y_scale.label)
    if x_scale.logarithmic:
        axes.set_xscale("log", base=2)
    if len(places) <= 8:
        axes.set_xticks(places, [_short(place) for place in places])
        axes.xaxis.set_minor_locator(NullLocator())
    if y_scale.logarithmic:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))
    else:
        axes.set_ylim(0, y_scale.end)
    for line in axes.lines:
        line.set_clip_on(False)  # a marker at the upper edge stays whole


def courses(title: str, note: str, shown: Sequence[Course], label: str) -> Figure:
    """Draws quantities over time, one panel each, against their bounds."""
    made, axes = panels(3.6 * len(shown) if len(shown) > 1 else 7.5, 3.8, len(shown))
    for each, course in zip(axes, shown, strict=True):
        each.fill_between(course.at_s, course.values, color=COLOURS["sky"], alpha=0.5, linewidth=0)
        each.plot(course.at_s, course.values, color=COLOURS["blue"], linewidth=1.2, label=label)
        highest = max(course.values)
        if course.bound is not None:
            each.axhline(course.bound, color=COLOURS["vermillion"], linestyle="--", label="budget")
            highest = max(highest, course.bound)
        each.set_ylim(0, highest * 1.1)
        each.set_xlim(0, course.at_s[-1])
        each.set_xlabel(f"{course.name}: time, s" if course.name else "time, s")
    axes[0].set_ylabel(label)
    _frame(made, title, note, columns=2)
    return made


def scatter(
    title: str,
    note: str,
    groups: Mapping[str, Sequence[tuple[float, float]]],
    labels: tuple[str, str],
    factor: float,
) -> Figure:
    """Draws pairs on two logarithmic axes of equal unit, with lines at equality and a factor."""
    made, axes = figure(7.2, 6.2)
    for place, (name, pairs) in enumerate(groups.items()):
        axes.scatter(
            [x for x, _ in pairs],
            [y for _, y in pairs],
            s=26,
            marker=_MARKERS[place % 8],
            color=cycle(place),
            label=name,
            alpha=0.85,
        )
    numbers = [number for pairs in groups.values() for pair in pairs for number in pair]
    ends = [min(numbers) / 1.5, max(numbers) * 1.5]
    axes.plot(ends, ends, color=GREY, linewidth=1, label="equal")
    axes.plot(
        ends,
        [end * factor for end in ends],
        color=GREY,
        linewidth=1.2,
        linestyle="--",
        label=f"{factor:g}×",
    )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(ends[0], ends[1])
    axes.set_ylim(ends[0], ends[1])
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    _frame(made, title, note, columns=5)
    return made


def _frame(made: Figure, title: str, note: str, *, columns: int) -> None:
    """Puts the title above all panels, the note below it, and one legend under everything."""
    made.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    made.axes[0].set_title(note, loc="left", fontsize=8, fontweight="normal", color=GREY)
    found: dict[str, Any] = {}
    for each in made.axes:
        handles, labels = each.get_legend_handles_labels()
        found |= dict(zip(labels, handles, strict=True))
    if len(found) > 1:
        made.legend(
            list(found.values()),
            list(found),
            loc="outside lower left",
            ncols=min(columns, len(found)),
        )


def _short(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"
