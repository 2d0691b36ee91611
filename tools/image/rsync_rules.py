"""The two rules of rsync that copy_bom depends on: exclude patterns and unsafe links."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath


def is_excluded(path: PurePosixPath, is_folder: bool, patterns: Sequence[str]) -> bool:
    """Whether `rsync --exclude` leaves a path out.

    Args:
        path: relative to the top of the transfer.
        is_folder: a pattern that ends in a slash matches folders only.
        patterns: with a leading slash anchored at the top; with another slash matched against the
            end of the path; otherwise against the name. `*` stops at a slash, `**` doesn't.
    """
    return any(_matches(path, is_folder, pattern) for pattern in patterns)


def _matches(path: PurePosixPath, is_folder: bool, pattern: str) -> bool:
    if pattern.endswith("/") and not is_folder:
        return False
    pattern = pattern.rstrip("/")
    if pattern.startswith("/"):
        return _expression(pattern[1:]).fullmatch(str(path)) is not None
    if "/" in pattern or "**" in pattern:
        return re.fullmatch("(?:.*/)?" + _expression(pattern).pattern, str(path)) is not None
    return _expression(pattern).fullmatch(path.name) is not None


def _expression(pattern: str) -> re.Pattern[str]:
    parts = re.split(r"(\*\*|\*|\?|\[[^\]]+\])", pattern)
    wild = {"**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile(
        "".join(
            wild.get(part) or (part if part.startswith("[") else re.escape(part)) for part in parts
        )
    )


def leaves_the_tree(link: PurePosixPath, text: str) -> bool:
    """Whether a link is "unsafe" to rsync: absolute, or leading above the top of the transfer.

    Args:
        link: the link, relative to the top of the transfer.
        text: what it points to.
    """
    if text.startswith("/"):
        return True
    depth = len(link.parts) - 1
    for part in PurePosixPath(text).parts:
        depth += -1 if part == ".." else 1
        if depth < 0:
            return True
    return False
