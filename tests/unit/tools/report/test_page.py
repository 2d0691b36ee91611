"""A page holds everything it needs, and shows text as text."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tools.report.page import Page

SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="4" height="4"><title>t</title></svg>'


class Outline(HTMLParser):
    """The tags and the text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page() -> Page:
    made = Page("Title", "Lead.")
    for number in range(3):
        made.heading(f"Section {number}")
    made.paragraph("A paragraph.")
    made.table(("name", "count"), [("a", 1), ("b", 2)], "A table", numeric=[1])
    made.figure(SVG, "two bars", "A figure")
    made.code("line 1\nline 2")
    return made


def test_nothing_comes_from_elsewhere() -> None:
    text = page().render()
    assert not re.search(r"(src|href)=\"(?!data:|#)", text)
    assert "<script" not in text
    assert "url(" not in text
    assert "@import" not in text


def test_text_is_never_markup() -> None:
    bad = '<script>alert("1")</script>&'
    made = Page(bad, bad)
    made.heading(bad)
    made.paragraph(bad)
    made.table([bad], [[bad]], bad)
    made.figure(SVG, bad, bad)
    made.code(bad)
    outline = Outline(made.render())
    assert not outline.all("script")
    assert outline.all("img")[0]["alt"] == bad


def test_people_with_a_screen_reader_get_the_same() -> None:
    outline = Outline(page().render())
    assert outline.all("html")[0]["lang"] == "en"
    assert outline.all("img")[0]["alt"] == "two bars"
    assert [each["scope"] for each in outline.all("th")] == ["col", "col", "row", "row"]
    targets = {f"#{each['id']}" for each in outline.all("h2")}
    assert {each["href"] for each in outline.all("a")} == targets
    assert len(targets) == 3


def test_a_figure_is_the_given_one() -> None:
    source = Outline(page().render()).all("img")[0]["src"] or ""
    assert base64.b64decode(source.partition("base64,")[2]).decode() == SVG


def test_numbers_are_aligned() -> None:
    text = page().render()
    assert '<td class="number">1</td>' in text
    assert '<th scope="row">a</th>' in text


def test_a_row_that_does_not_fit() -> None:
    made = Page("t", "l")
    with pytest.raises(ValueError, match=r"row 1 has 1 cells, expected 2"):
        made.table(("a", "b"), [("1", "2"), ("3",)], "broken")


def test_the_file_appears_whole(tmp_path: Path) -> None:
    page().write(tmp_path / "new" / "page.html")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["page.html"]
    assert (tmp_path / "new" / "page.html").read_text(encoding="utf-8") == page().render()
