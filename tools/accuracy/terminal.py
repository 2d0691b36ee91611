"""What was found, as tables in a terminal."""

from __future__ import annotations

from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tools.accuracy.evaluation import Evaluation
from tools.accuracy.results import ModelResult
from tools.accuracy.rungs import ModelReport, Rung
from tools.accuracy.tally import CONFUSION_CLASSES
from tools.accuracy.wording import (
    CLASS_HEADERS,
    RUNG_HEADERS,
    class_cells,
    findings,
    measures,
    percent,
    rung_cells,
    weakest,
)

_STYLES: Final = {True: "green", False: "bold red", None: "dim"}


def print_result(result: ModelResult, console: Console) -> None:
    """Prints the ladder's table, and what the data told."""
    if result.report is not None:
        _print_report(result.report, console)
    if result.evaluation is not None:
        _print_evaluation(result, result.evaluation, console)


def _print_report(report: ModelReport, console: Console) -> None:
    table = _table(f"{report.name}: {report.partitions} partitions", RUNG_HEADERS, left=2)
    for rung in report.rungs:
        table.add_row(*_styled(rung))
    console.print(table)
    if report.whole_accuracy is not None:
        console.print(
            f"accuracy on {report.labelled} labelled pictures: "
            f"whole model {percent(report.whole_accuracy)}, "
            f"deployed {percent(report.deployed_accuracy)}"
        )


def _styled(rung: Rung) -> list[Text]:
    *cells, result = rung_cells(rung)
    return [*map(Text, cells), Text(result, style=_STYLES[rung.passed])]


def _print_evaluation(result: ModelResult, evaluation: Evaluation, console: Console) -> None:
    title = f"{result.name} on {evaluation.data}: {evaluation.examples} examples"
    if not evaluation.complete:
        title += " until it was stopped"
    if rows := measures(evaluation):
        table = _table(title, ("", "reference", "partitions"), left=1)
        for row in rows:
            table.add_row(*row)
        console.print(table)
    else:
        console.print(Text(title), style="italic", soft_wrap=True)
    console.print(Text(f"reference: {evaluation.reference}"), soft_wrap=True)
    for sentence in findings(evaluation):
        console.print(Text(sentence), soft_wrap=True)
    _print_classes(result, evaluation, console)


def _print_classes(result: ModelResult, evaluation: Evaluation, console: Console) -> None:
    found = evaluation.classification
    if found is None or not found.rows:
        return
    rows = weakest(found.rows, CONFUSION_CLASSES)
    few = len(rows) < len(found.rows)
    table = _table(
        f"the {len(rows)} classes with the lowest recall" if few else "classes",
        CLASS_HEADERS,
        left=1,
    )
    for row in rows:
        table.add_row(*map(Text, class_cells(row, result.label(row.index))))
    console.print(table)


def _table(title: str, headers: tuple[str, ...], *, left: int) -> Table:
    """Makes a table whose first columns are aligned to the left."""
    table = Table(title=Text(title, style="table.title"), title_justify="left")
    for place, header in enumerate(headers):
        last = place == len(headers) - 1
        table.add_column(header, justify="left" if place < left else "right", no_wrap=last)
    return table
