"""What is in the wheel, and what every folder and file has."""

from __future__ import annotations

import ast
from pathlib import Path
from zipfile import ZipFile

import pytest
from hatchling.builders.wheel import WheelBuilder

from tests.architecture.imports import ROOT, modules

FOLDERS = ("app", "tools", "partitions", "occlum_image", "ci", "tests")
SOURCES = sorted(path for top in ("app", "tools") for path in modules(top).values())
LONGEST_FILE = 360
"""Lines of code; docstrings and comments don't count."""
LONGEST_FUNCTION = 70


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The names in the wheel, built in process."""
    target = tmp_path_factory.mktemp("wheel")
    [path] = WheelBuilder(str(ROOT)).build(directory=str(target), versions=["standard"])
    with ZipFile(path) as archive:
        return archive.namelist()


def test_wheel_holds_app_and_nothing_else(wheel: list[str]) -> None:
    tops = {name.split("/")[0] for name in wheel}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"app"}
    code = {name for name in wheel if name.endswith(".py")}
    assert code == {str(path.relative_to(ROOT)) for path in modules("app").values()}


def test_wheel_holds_the_page(wheel: list[str]) -> None:
    page = ROOT / "app" / "server" / "page"
    files = {str(path.relative_to(ROOT)) for path in page.iterdir() if path.is_file()}
    assert {f"app/server/page/{name}" for name in ("index.html", "script.js", "style.css")} < files
    assert files <= set(wheel)


@pytest.mark.parametrize("folder", FOLDERS)
def test_folders_explain_themselves(folder: str) -> None:
    text = (ROOT / folder / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) > 3


@pytest.mark.parametrize(
    "name", ["README.md", "CHANGELOG.md", "LICENSE", "Makefile", "SECURITY.md"]
)
def test_the_root_has(name: str) -> None:
    assert (ROOT / name).stat().st_size > 0


def _code_lines(text: str, tree: ast.Module) -> int:
    """Counts lines that hold code: a file may explain itself at whatever length."""
    explained = {
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    return sum(
        number not in explained and line.strip() != "" and not line.lstrip().startswith("#")
        for number, line in enumerate(text.splitlines(), 1)
    )


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_stay_short_and_explained(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert _code_lines(text, tree) < LONGEST_FILE
    assert ast.get_docstring(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
            assert node.end_lineno - node.lineno < LONGEST_FUNCTION, node.name


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_input_is_never_guarded_by_assert(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Assert)]


def test_every_test_folder_is_a_package() -> None:
    folders = {path.parent for path in (ROOT / "tests").rglob("test_*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []
