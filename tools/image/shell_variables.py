"""Fills `$NAME`, `${NAME}` and `${NAME:-default}` in, as copy_bom does in paths."""

from __future__ import annotations

import re
from collections.abc import Mapping

_VARIABLE = re.compile(
    r"\$(?:\$|(?P<name>[A-Za-z0-9_]+)"
    r"|\{(?P<braced>[A-Za-z0-9_]+)(?::-(?P<default>[^}]*))?\}|(?P<odd>\{))"
)


def fill(text: str, environment: Mapping[str, str]) -> str:
    """Fills variables in; what is filled in isn't looked at again.

    `$$` is a dollar sign, and so is a `$` that nothing belongs to. A default counts when the
    variable isn't set; one that is set and empty stays empty.

    Args:
        text: a path of a bom.
        environment: values by name.

    Raises:
        ValueError: a variable isn't set, or isn't written in one of the three ways. copy_bom then
            leaves the whole text as it is and goes on with it.
    """

    def value(match: re.Match[str]) -> str:
        name = match["name"] or match["braced"]
        if match["odd"]:
            raise ValueError(f"{text!r}: write a variable as ${{NAME}} or ${{NAME:-default}}")
        if name is None:
            return "$"
        if name not in environment and match["default"] is None:
            raise ValueError(f"{text!r}: ${{{name}}} isn't set")
        return environment.get(name, match["default"] or "")

    return _VARIABLE.sub(value, text)
