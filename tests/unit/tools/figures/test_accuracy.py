"""Figures of accuracy hold every number, and no text lies on another."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from tools.figures import accuracy
from tools.figures.style import svg_text

INF = float("inf")
FIGURES: dict[str, Any] = {
    "rungs": lambda: accuracy.rung_differences(
        {"cut": [0.0] * 30, "deployed": [1e-7, 0.0, 3e-6], "tls": [0.0]}, 1e-4
    ),
    "one rung, far off": lambda: accuracy.rung_differences({"cut": [INF, 0.0, 7.0]}, 1e-4),
    "differences": lambda: accuracy.difference_histogram(12, [(-8, 100), (-5, 3), (1, 1)]),
    "all decades": lambda: accuracy.difference_histogram(1, [(d, 9) for d in range(-9, 2)]),
    "no differences": lambda: accuracy.difference_histogram(359, []),
    "confusion": lambda: accuracy.confusion_matrix(
        np.eye(10, dtype=int).tolist(), list("0123456789")
    ),
    "long labels": lambda: accuracy.confusion_matrix(
        (9 * np.eye(20, dtype=int)).tolist(), [f"{n} animal with a long name" for n in range(20)]
    ),
    "nothing of a class": lambda: accuracy.confusion_matrix([[0, 0], [1, 2]], ["cat", "dog"]),
    "recall": lambda: accuracy.class_recall(
        [f"{n} animal with a long name" for n in range(20)], [1.0] * 20, [n / 20 for n in range(20)]
    ),
}


def texts(made: Figure) -> list[Any]:
    made.canvas.draw()
    found = []
    for axes in made.axes:
        ticks = [*axes.get_xticklabels(), *axes.get_yticklabels()]
        found += [*axes.texts, *ticks, axes.xaxis.label, axes.yaxis.label]
    return [text for text in found if text.get_text() and text.get_visible()]


@pytest.mark.parametrize("name", FIGURES)
def test_no_text_lies_on_another_or_outside(name: str) -> None:
    made = FIGURES[name]()
    shown = texts(made)
    assert shown
    frame = made.bbox
    boxes = [(text.get_text(), text.get_window_extent()) for text in shown]
    for text, box in boxes:
        assert frame.x0 <= box.x0 + 1, text
        assert box.x1 <= frame.x1 + 1, text
    for (one, box), (two, other) in combinations(boxes, 2):
        assert not box.padded(-1).overlaps(other.padded(-1)), f"{one!r} lies on {two!r}"


@pytest.mark.parametrize("name", FIGURES)
def test_axes_say_what_they_show(name: str) -> None:
    axes = FIGURES[name]().axes[0]
    assert axes.get_xlabel()
    assert axes.get_ylabel()


def test_every_count_is_written() -> None:
    svg = svg_text(accuracy.difference_histogram(12, [(-8, 101), (-5, 3)]))
    for count in ("12", "101", "3"):
        assert f">{count}</text>" in svg
    svg = svg_text(accuracy.confusion_matrix([[41, 2], [0, 57]], ["cat", "dog"]))
    for count in ("41", "2", "57"):
        assert f">{count}</text>" in svg
