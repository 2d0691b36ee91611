"""Foreign text on its way to a terminal."""

from __future__ import annotations

import unicodedata
from typing import Final

_SHOWN_AS_CODES: Final = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})
"""Categories of Unicode: control characters, invisible ones that change what is beside them (as
writing from right to left does), what isn't a character, and separators of lines."""

_JOINERS: Final = "\u200c\u200d"
"""Letters of several scripts, and emoji, are wrong without them; they change nothing else."""


def printable(text: str, *, keep: str = "") -> str:
    r"""Gives a text in which nothing can steer a terminal or change how the rest is read.

    Args:
        text: from a server, a file or a model: anybody may have written it.
        keep: control characters that stay, such as a line break.

    Returns:
        The text with `\x1b`, `\u202e` and so on in the place of such characters.
    """
    kept = keep + _JOINERS
    return "".join(
        character
        if character in kept or unicodedata.category(character) not in _SHOWN_AS_CODES
        else character.encode("unicode_escape").decode()
        for character in text
    )
