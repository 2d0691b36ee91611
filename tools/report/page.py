"""A self-contained HTML page, put together from top to bottom.

Everything is inside the one file: style and figures too. It needs no script and asks no
other host for anything, so it can be kept, sent, and opened years later.
"""

from __future__ import annotations

import base64
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tools.console import plain
from tools.files import write_file

_TEMPLATE: Final = "page.html.j2"
_ENVIRONMENT: Final = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


@dataclass(frozen=True, slots=True)
class _Block:
    """One element of the page; `kind` chooses its form in the template."""

    kind: str
    text: str = ""
    anchor: str = ""
    headers: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    numeric: frozenset[int] = frozenset()
    source: str = ""
    alt: str = ""


@dataclass(slots=True)
class Page:
    """A page that grows by one element at every call.

    All text is plain: what looks like HTML in it is shown, not obeyed.

    Attributes:
        title: of the page and of the browser's tab.
        lead: one or two sentences below the title: what this is, of when and where.
    """

    title: str
    lead: str
    _blocks: list[_Block] = field(default_factory=list)

    def heading(self, text: str) -> None:
        """Begins a section; the list of contents shows it."""
        count = sum(block.kind == "heading" for block in self._blocks)
        self._blocks.append(_Block("heading", text, anchor=f"section-{count + 1}"))

    def paragraph(self, text: str) -> None:
        """Adds a paragraph."""
        self._blocks.append(_Block("paragraph", text))

    def code(self, text: str) -> None:
        """Adds a command or a file's content, with its line breaks."""
        self._blocks.append(_Block("code", text))

    def table(
        self,
        headers: Sequence[str],
        rows: Sequence[Sequence[object]],
        caption: str,
        numeric: Collection[int] = (),
    ) -> None:
        """Adds a table; the first cell of a row is its heading.

        Args:
            headers: one per column.
            rows: one cell per column, shown as `str` gives it.
            caption: what the table shows, in a sentence.
            numeric: columns from 0 that are aligned to the right.

        Raises:
            ValueError: when a row doesn't have one cell per column.
        """
        cells = tuple(tuple(str(cell) for cell in row) for row in rows)
        for number, row in enumerate(cells):
            if len(row) != len(headers):
                raise ValueError(
                    f"table {caption!r}: row {number} has {len(row)} cells, "
                    f"expected {len(headers)}: {row}"
                )
        self._blocks.append(
            _Block(
                "table",
                caption,
                headers=tuple(headers),
                rows=cells,
                numeric=frozenset(numeric),
            )
        )

    def figure(self, svg: str, alt: str, caption: str) -> None:
        """Adds a picture.

        Args:
            svg: the whole SVG document as text.
            alt: what the picture says, for those who don't see it.
            caption: what is shown and how to read it.
        """
        # As an image of its own: its ids don't meet those of other figures, and nothing in it runs.
        encoded = base64.b64encode(svg.encode()).decode()
        source = f"data:image/svg+xml;base64,{encoded}"
        self._blocks.append(_Block("figure", caption, source=source, alt=alt))

    def render(self) -> str:
        """Gives the page's HTML; the same calls give the same text."""
        template = _ENVIRONMENT.get_template(_TEMPLATE)
        headings = [block for block in self._blocks if block.kind == "heading"]
        return plain(
            template.render(
                title=self.title, lead=self.lead, blocks=self._blocks, headings=headings
            )
        )

    def write(self, path: Path) -> None:
        """Writes the page; the file appears whole or not at all.

        Raises:
            OSError: when it can't be written.
        """
        write_file(path, self.render().encode())
