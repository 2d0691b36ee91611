"""Figures are the same for the same data, readable, and need nothing from elsewhere."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path

from matplotlib.figure import Figure

from tools.figures.style import COLOURS, CYCLE, cycle, figure, legend_above, panels, save, svg_text


def drawn() -> Figure:
    made, axes = figure(6, 3)
    for place in range(5):
        axes.plot([0, 1], [place, 0], label=f"series {place} & more")
    axes.set_title("A title")
    axes.set_xlabel("time / s")
    axes.set_ylabel("memory / MiB")
    legend_above(axes, columns=2)
    return made


def test_same_data_same_picture() -> None:
    one, other = svg_text(drawn()), svg_text(drawn())
    assert one == other
    assert one.startswith("<svg ")


def test_text_stays_text_and_nothing_is_fetched() -> None:
    text = svg_text(drawn())
    assert ">A title</text>" in text
    assert "series 3 &amp; more" in text
    assert set(re.findall(r"https?://[^/\"]+", text)) == {"http://www.w3.org"}
    assert "<metadata" not in text


def test_two_files_and_none_half_written(tmp_path: Path) -> None:
    png, svg = save(drawn(), tmp_path / "new" / "a.plan")
    assert (png.name, svg.name) == ("a.plan.png", "a.plan.svg")
    assert png.read_bytes().startswith(b"\x89PNG")
    assert sorted(each.name for each in png.parent.iterdir()) == ["a.plan.png", "a.plan.svg"]


def test_title_legend_and_axes_dont_overlap() -> None:
    made = drawn()
    made.canvas.draw()
    axes = made.axes[0]
    legend = axes.get_legend()
    assert legend is not None
    boxes = [
        axes.get_window_extent(),
        legend.get_window_extent(),
        axes.title.get_window_extent(),
        axes.yaxis.label.get_window_extent(),
    ]
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))


def test_colours_differ_and_go_round() -> None:
    assert len({*CYCLE}) == len(CYCLE) == len(COLOURS)
    assert cycle(len(CYCLE)) == cycle(0)


def test_panels_are_given_row_by_row() -> None:
    _, axes = panels(6, 4, 2, 2)
    assert len(axes) == 4
    assert axes[0].get_subplotspec() != axes[1].get_subplotspec()
