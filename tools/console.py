"""What reaches a terminal or a picture: text, and never what a terminal would obey.

Names of operators, labels of classes and answers of servers are somebody else's. A control
sequence in them could write over what was printed, or have the terminal do worse; marks that turn
the direction of writing make a name look like another one. So all that commands print goes
through here, and every figure's text too.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, Final

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from tools.terminal import printable

_LINE_BREAK: Final = "\n"


def plain(text: str) -> str:
    """Gives a text of one or more lines with every active character written out."""
    return printable(text, keep=_LINE_BREAK)


def say(text: str = "", *, error: bool = False) -> None:
    """Prints a line.

    Args:
        text: of one or more lines, from anywhere.
        error: whether it goes to stderr.
    """
    print(plain(text), file=sys.stderr if error else sys.stdout, flush=True)


def terminal(*, stderr: bool = False, **settings: Any) -> Console:
    """Makes a console on which tables and styles work and foreign text does nothing.

    Text in brackets stays what it is: styles are given beside a text, never in it.

    Args:
        stderr: whether it prints there.
        **settings: of `rich.console.Console`.
    """
    return _Terminal(stderr=stderr, markup=False, emoji=False, **settings)


class _Terminal(Console):
    """Writes out what is active in everything that is rendered; styles are added afterwards."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(plain(segment.text), segment.style)
