"""The rules of rsync that copy_bom depends on: exclude patterns and unsafe links."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import PurePosixPath

_CLASSES = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "blank": " \\t",
    "cntrl": "\\x00-\\x1f\\x7f",
    "digit": "0-9",
    "graph": "\\x21-\\x7e",
    "lower": "a-z",
    "print": "\\x20-\\x7e",
    "punct": "\\x21-\\x2f\\x3a-\\x40\\x5b-\\x60\\x7b-\\x7e",
    "space": " \\t-\\r",
    "upper": "A-Z",
    "xdigit": "0-9A-Fa-f",
}
_NEVER = "(?!)"


def is_excluded(path: PurePosixPath, is_folder: bool, patterns: Sequence[str]) -> bool:
    """Whether `rsync --exclude` leaves a path out.

    Args:
        path: relative to the top of the transfer.
        is_folder: a pattern that ends in a slash matches folders only.
        patterns: with a leading slash anchored at the top; with another slash matched against the
            end of the path; otherwise against the name. `*` and `?` stop at a slash, `**` doesn't;
            `[^a]` and `[!a]` are any other character; a trailing `***` is a folder and all in it.
            Without a wildcard, a backslash is a character like any other.
    """
    name = _bytewise(str(path))
    return any(_matches(name, is_folder, _bytewise(pattern)) for pattern in patterns)


def _bytewise(text: str) -> str:
    """One character for each byte, because rsync's `?` is a byte."""
    return os.fsencode(text).decode("latin-1")


def _matches(path: str, is_folder: bool, pattern: str) -> bool:
    if len(pattern) > 1 and pattern.endswith("/"):
        if not is_folder:
            return False
        pattern = pattern[:-1]
    if not pattern.startswith("/") and "**" not in pattern:
        parts = path.split("/")
        elements = pattern.count("/") + 1
        path = "/".join(parts[-elements:]) if len(parts) >= elements else ""
    if pattern.startswith("**"):
        path = f"/{path}"
    if pattern.endswith("***") and is_folder:
        path = f"{path}/"
    return _expression(pattern).fullmatch(path) is not None


@lru_cache(maxsize=1024)
def _expression(pattern: str) -> re.Pattern[str]:
    body = pattern.removeprefix("/")
    text = _wild(body) if any(sign in pattern for sign in "*?[") else re.escape(body)
    inside = "**" in pattern and not pattern.startswith(("/", "**"))
    return re.compile(("(?:.*/)?" if inside else "") + text, re.DOTALL)


def _wild(pattern: str) -> str:
    parts: list[str] = []
    at = 0
    while at < len(pattern):
        sign = pattern[at]
        if sign == "*":
            stars = len(pattern) - at - len(pattern[at:].lstrip("*"))
            parts.append(".*" if stars > 1 else "[^/]*")
            at += stars
        elif sign == "[":
            text, at = _bracket(pattern, at + 1)
            parts.append(text)
        elif sign == "\\":
            parts.append(re.escape(pattern[at + 1]) if at + 1 < len(pattern) else _NEVER)
            at += 2
        else:
            parts.append("[^/]" if sign == "?" else re.escape(sign))
            at += 1
    return "".join(parts)


def _bracket(pattern: str, at: int) -> tuple[str, int]:
    """Reads a set of characters; gives it as an expression, and where the pattern goes on."""
    negated = pattern.startswith(("^", "!"), at)
    at += negated
    items: list[str] = []
    first = at
    while at < len(pattern) and (pattern[at] != "]" or at == first):
        named = re.match(r"\[:([a-z]*):\]", pattern[at:])
        if named is not None:
            items.append(_CLASSES.get(named[1], ""))
            if named[1] not in _CLASSES:
                return _NEVER, len(pattern)
            at += named.end()
            continue
        low, at = _character(pattern, at)
        if pattern[at : at + 1] == "-" and pattern[at + 1 : at + 2] not in ("", "]"):
            high, at = _character(pattern, at + 1)
            items.append(f"{re.escape(low)}-{re.escape(high)}" if low <= high else re.escape(low))
        else:
            items.append(re.escape(low))
    if at >= len(pattern):
        return _NEVER, len(pattern)
    inside = "".join(items)
    if not inside:
        return ("[^/]" if negated else _NEVER), at + 1
    return f"(?!/)[{'^' if negated else ''}{inside}]", at + 1


def _character(pattern: str, at: int) -> tuple[str, int]:
    if pattern[at] == "\\" and at + 1 < len(pattern):
        at += 1
    return pattern[at], at + 1


def leaves_the_tree(link: PurePosixPath, text: str) -> bool:
    """Whether a link is "unsafe" to rsync: absolute, or leading above the top of the transfer.

    Since 2025 rsync also takes a link for unsafe when `..` comes after another part, as in
    `sub/../file`, or ends it, as in `../..`.

    Args:
        link: the link, relative to the top of the transfer.
        text: what it points to.
    """
    if text.startswith("/") or (len(text) > 3 and text.endswith("/..")):
        return True
    parts = [part for part in text.split("/") if part]
    upwards = next((i for i, part in enumerate(parts) if part != ".."), len(parts))
    return ".." in parts[upwards:] or upwards > len(link.parts) - 1
