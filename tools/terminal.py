"""What reaches a terminal or a picture: text, and never what a terminal would obey.

Names of operators, labels of classes and answers of servers are somebody else's. A control
sequence in them could write over what was printed, or have the terminal do worse; marks that turn
the direction of writing make a name look like another one. So all that commands print goes
through here, and every figure's text too.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from typing import Any, Final

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

_ACTIVE: Final = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)
"""Control characters but the line's end, what has no width or turns the direction of writing,
and halves of characters."""


def plain(text: str) -> str:
    """Gives a text with every active character written out: an escape as backslash, x1b."""
    return _ACTIVE.sub(lambda found: ascii(found[0])[1:-1], text)


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
