"""Foreign text does nothing to a terminal or a picture, and there is one place that sees to it.

The attacker names operators, labels and files, or answers as a server. What must not happen: a
terminal obeys a name, a picture's parser ends the command, or a line looks like another one.
"""

from __future__ import annotations

import ast
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

import pytest
from rich.table import Table

from app.errors import ApplianceError
from tests import models
from tests.architecture.imports import modules
from tools.command_line import phases, progress, run
from tools.commands.check_accuracy import main as check
from tools.commands.partition import main as partition
from tools.console import plain, say, terminal
from tools.figures.style import figure, save
from tools.report.page import Page

ACTIVE: Final = {
    "\x1b]0;owned\x07": r"\x1b]0;owned\x07",
    "\x1b[2J": r"\x1b[2J",
    "\x9b31m": r"\x9b31m",
    "a\rb\bc": r"a\rb\x08c",
    "\u202egnp.exe": r"\u202egnp.exe",
    "\u2066x\u2069": r"\u2066x\u2069",
    "\u200bhidden": r"\u200bhidden",
    "line\u2028line": r"line\u2028line",
    "\ud800": r"\ud800",
    "\0\x7f\t": r"\x00\x7f\t",
}
HARMLESS: Final = ("naïve façade", "犬", "👍🏽", "a\nb", "C:\\x1b", "$x^2$ [bold]x[/] :dog:")
NAME: Final = "\x1b]0;owned\x07 $\\frac{1}{$ [/] [bold red]x"


@pytest.mark.parametrize("text", ACTIVE)
def test_what_is_active_is_written_out(text: str) -> None:
    assert plain(text) == ACTIVE[text]


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_not_stays(text: str) -> None:
    assert plain(text) == text


@pytest.fixture
def coloured(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a terminal, where bars move and tables have colours."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")


@pytest.mark.parametrize("text", ACTIVE)
@pytest.mark.usefixtures("coloured")
def test_every_way_to_print(capsys: pytest.CaptureFixture[str], text: str) -> None:
    console = terminal()
    table = Table("column", title=text, caption=text)
    table.add_row(text)
    console.print(text, table, highlight=False)
    say(text)
    say(text, error=True)

    def failing() -> int:
        raise ApplianceError(text)

    run(failing)
    with progress(text, 1) as done:
        done(1)
    with phases() as tell:
        tell(text)
    shown = "".join(capsys.readouterr())
    assert shown.count(ACTIVE[text]) >= 3, "what was said, and the error"
    assert text not in shown


@pytest.mark.usefixtures("coloured")
def test_brackets_and_colons_mean_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("[bold]a[/]", title="[/]")
    table.add_row("[link=x]b :dog:")
    terminal().print("[/red] :cat:", table, highlight=False)
    shown = capsys.readouterr().out
    for text in ("[bold]a[/]", "[/]", "[link=x]b :dog:", "[/red] :cat:"):
        assert text in shown


@pytest.mark.parametrize("text", [*ACTIVE, NAME])
def test_a_figure_holds_names_as_they_are(tmp_path: Path, text: str) -> None:
    made, axes = figure(12, 8)
    axes.set_title(text)
    axes.set_xlabel(text)
    axes.bar([text], [1], label=text)
    axes.annotate(text, (0, 0))
    axes.legend()
    _, svg = save(made, tmp_path / "f")
    ElementTree.parse(svg)
    assert "owned\x07" not in svg.read_text(encoding="utf-8")


@pytest.mark.parametrize("text", ACTIVE)
def test_a_page_holds_no_control_characters(text: str) -> None:
    page = Page(text, text)
    page.paragraph(text)
    page.table([text], [[text]], text)
    assert text not in page.render()


def test_a_model_with_such_names_goes_the_whole_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = models.chain()
    for node in model.graph.node:
        node.name = NAME + node.name
    path = models.save(model, tmp_path / "net.onnx")
    target = tmp_path / "m"
    assert partition([str(path), "-o", str(target), "--partitions", "2", "--explain"]) == 0
    shown = capsys.readouterr()
    assert "\x1b" not in shown.out + shown.err
    assert r"\x1b]0;owned" in shown.out


def test_labels_of_such_names_in_every_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    digits = Path(__file__).parents[3] / "partitions" / "digits"
    folder = tmp_path / "digits"
    shutil.copytree(digits, folder)
    card = json.loads((folder / "model.json").read_text())
    card["labels"] = [NAME, "$\\frac{1}{$", "a\x1b[31m", "]]>", "[/]", "5", "6", "7", "8", "9"]
    card["title"] = NAME
    (folder / "model.json").write_text(json.dumps(card))
    data = str(folder / "samples" / "test_set.npz")
    report = tmp_path / "r.html"
    assert check([str(folder), "--data", data, "--report", str(report)]) == 0
    shown = capsys.readouterr()
    assert "\x1b" not in shown.out + shown.err + report.read_text()


EXEMPT: Final = {
    "tools.console": "is the place",
    "tools.launcher": "runs before anything is installed, and says texts of its own only",
    "tools.confinement.supervisor": "says texts of its own only",
    "tools.confinement.child": "says texts of its own only",
}


def outlets(tree: ast.AST) -> Iterator[str]:
    """The ways around the place: print, the streams, a console or a figure of one's own."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id in ("print", "Console"):
                yield node.func.id
        elif isinstance(node, ast.Attribute) and node.attr in ("stdout", "stderr", "savefig"):
            owner = node.value
            if node.attr == "savefig" or (isinstance(owner, ast.Name) and owner.id == "sys"):
                yield node.attr


PRINTING: Final = sorted(
    name
    for name in set(modules("tools")) - set(EXEMPT)
    # What builds and starts images prints its own texts: no model is read there.
    if not name.startswith("tools.image.")
)


@pytest.mark.parametrize("name", PRINTING)
def test_nothing_is_printed_past_it(name: str) -> None:
    tree = ast.parse(modules("tools")[name].read_text(encoding="utf-8"))
    allowed = {"savefig"} if name == "tools.figures.style" else set()
    assert set(outlets(tree)) <= allowed


def test_every_figure_is_drawn_literally() -> None:
    made, axes = figure(2, 2)
    axes.set_title("x")
    assert not axes.title.get_parse_math()
    assert made.axes == [axes]
