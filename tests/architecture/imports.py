"""Reads what every module imports, without importing it."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]


def modules(top: str) -> Mapping[str, Path]:
    """Gives the modules of a package by dotted name; a package stands for its __init__."""
    found = {}
    for path in sorted((ROOT / top).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path) -> Iterator[str]:
    """Gives the dotted names that a module imports, at its top or inside of functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            # `from package import module` imports the module.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def reads_files(path: Path) -> bool:
    """Says whether a module opens or reads files by itself."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        text = ast.unparse(node.func)
        mode = node.args[0] if node.args else None
        is_mode = isinstance(mode, ast.Constant) and isinstance(mode.value, str)
        if text in ("open", "os.open") or (text.endswith(".open") and is_mode):
            return True
        if isinstance(node.func, ast.Attribute) and node.func.attr in _READING:
            return True
    return False


_READING: Final = {"read_bytes", "read_text", "pread", "preadv", "readv", "fdopen"}


def inner_imports(known: Mapping[str, Path]) -> Mapping[str, set[str]]:
    """Gives, for each module, the modules among `known` that it imports."""
    return {
        name: {target for each in imports(path) if (target := _module(each, known))} - {name}
        for name, path in known.items()
    }


def outer_imports(path: Path) -> set[str]:
    """Gives the top-level packages that a module imports."""
    return {name.split(".")[0] for name in imports(path)}


def _module(name: str, known: Mapping[str, Path]) -> str | None:
    """A name inside of a module stands for the module."""
    if name in known:
        return name
    parent = name.rpartition(".")[0]
    return parent if parent in known else None
