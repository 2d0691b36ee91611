"""Texts that reach clients are written by modules that know no path and no library's words."""

from __future__ import annotations

import ast
from typing import Final

import pytest

from app import errors
from tests.architecture.imports import modules, outer_imports

LIBRARIES: Final = {"os", "pathlib", "onnxruntime", "cryptography", "mbedtls", "ssl", "socket"}
"""What knows paths, or speaks of them."""


def _kinds(kind: type[errors.AnsweredError] = errors.AnsweredError) -> set[str]:
    """Gives the names of errors whose own text is sent."""
    return {kind.__name__}.union(*map(_kinds, kind.__subclasses__()))


def _raised(name: str) -> set[str]:
    """Gives the errors for clients that a module makes with a text."""
    tree = ast.parse(modules("app")[name].read_text(encoding="utf-8"))
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    names = {node.func.id for node in calls if isinstance(node.func, ast.Name) and node.args}
    return names & _kinds()


RAISING: Final = sorted(name for name in modules("app") if _raised(name))


def test_there_are_such_modules() -> None:
    assert {"app.tensors", "app.pictures", "app.server.oip.request"} & set(RAISING)


@pytest.mark.parametrize("name", RAISING)
def test_who_writes_for_clients_knows_no_path(name: str) -> None:
    assert not outer_imports(modules("app")[name]) & LIBRARIES


@pytest.mark.parametrize("name", RAISING)
def test_who_writes_for_clients_quotes_no_exception(name: str) -> None:
    """Of exceptions that are put into a text, only those of `app.fields` are our own words."""
    tree = ast.parse(modules("app")[name].read_text(encoding="utf-8"))
    for handler in (node for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler)):
        if handler.name is None or ast.unparse(handler.type or handler) == "FieldError":
            continue
        for node in ast.walk(handler):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                quoted = {
                    each.id
                    for arg in node.args
                    for each in ast.walk(arg)
                    if isinstance(each, ast.Name)
                }
                assert not (node.func.id in _kinds() and handler.name in quoted), ast.unparse(node)
