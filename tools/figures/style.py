"""How every figure looks, and how it is written.

No display and no window is needed. The same data gives the same SVG, so a
changed picture is a diff.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from tools.console import plain
from tools.files import write_file

COLOURS: Final = {
    "black": "#000000",
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "green": "#009E73",
    "yellow": "#F0E442",
    "blue": "#0072B2",
    "vermillion": "#D55E00",
    "purple": "#CC79A7",
}
"""Distinct for colour-blind eyes too: M. Okabe and K. Ito, "Color Universal Design", 2008."""

CYCLE: Final = ("blue", "orange", "green", "vermillion", "purple", "sky", "yellow", "black")
"""The order in which series take their colours; see `cycle`."""

GREY: Final = "#666666"
"""Notes, bounds and whatever isn't a series."""

DOTS_PER_INCH: Final = 150
"""Of the PNG."""

# The stub of rcParams knows every key by name, which no annotation of ours can say.
_SETTINGS: Final[dict[str, Any]] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same widths everywhere
    "font.size": 10,
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.labelsize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.8,
    "axes.prop_cycle": cycler(color=[COLOURS[name] for name in CYCLE]),
    "lines.linewidth": 1.8,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "text.parse_math": False,  # names hold dollars, and mean nothing by them
    "svg.fonttype": "none",  # text stays text: searchable, read aloud
    "svg.hashsalt": "cloister",  # ids don't change from run to run
}
mpl.rcParams.update(_SETTINGS)  # type: ignore[arg-type]

_set_text = Text.set_text


def _set_plain(text: Text, content: object) -> None:
    """Every text of a figure comes by here, those that are made while it is drawn too."""
    _set_text(text, None if content is None else plain(str(content)))


Text.set_text = _set_plain  # type: ignore[method-assign, assignment]

_NO_METADATA: Final = dict.fromkeys(("Creator", "Date", "Format", "Type"))


def figure(width: float, height: float) -> tuple[Figure, Axes]:
    """Makes an empty figure with one pair of axes.

    Args:
        width: in inches.
        height: in inches. Labels, titles and legends get their room by themselves.
    """
    made, axes = panels(width, height, 1)
    return made, axes[0]


def panels(
    width: float, height: float, columns: int, rows: int = 1, *, share_y: bool = False
) -> tuple[Figure, list[Axes]]:
    """Makes an empty figure with several axes, given row by row from the top left."""
    made = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(made)
    grid = made.subplots(rows, columns, squeeze=False, sharey=share_y)
    return made, list(grid.flat)


def cycle(place: int) -> str:
    """Gives the colour of the series at a place."""
    return COLOURS[CYCLE[place % len(CYCLE)]]


def legend_above(axes: Axes, columns: int = 4, order: Sequence[int] | None = None) -> None:
    """Puts the legend between title and axes, where no data lies.

    Args:
        axes: whose series have labels.
        columns: entries beside each other.
        order: places of the entries; None: as they were drawn.
    """
    handles, labels = axes.get_legend_handles_labels()
    chosen = range(len(handles)) if order is None else order
    axes.legend(
        [handles[place] for place in chosen],
        [labels[place] for place in chosen],
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        ncols=columns,
        borderaxespad=0.2,
    )
    if axes.get_title(loc="left"):
        rows = -(-len(handles) // columns)
        axes.set_title(axes.get_title(loc="left"), loc="left", pad=8 + 16 * rows)


def save(made: Figure, path: Path) -> tuple[Path, Path]:
    """Writes a figure as PNG and SVG, each beside its place and then renamed.

    Args:
        made: the figure.
        path: where, without a suffix.

    Returns:
        The two files: PNG, SVG.
    """
    png, svg = path.with_name(f"{path.name}.png"), path.with_name(f"{path.name}.svg")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(png, _rendered(made, "png"))
    write_file(svg, svg_text(made).encode())
    return png, svg


def svg_text(made: Figure) -> str:
    """Gives a figure as SVG, to stand in a page: no XML prologue, no time, no foreign host."""
    text = _rendered(made, "svg").decode()
    return text[text.index("<svg ") :]


def _rendered(made: Figure, kind: str) -> bytes:
    content = io.BytesIO()
    if kind == "svg":
        made.savefig(content, format="svg", metadata=_NO_METADATA)
    else:
        made.savefig(content, format=kind, dpi=DOTS_PER_INCH, metadata={"Software": None})
    return content.getvalue()
