"""What was found, as a page that a person can keep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tools.accuracy.evaluation import Evaluation
from tools.accuracy.ladder import TOLERANCE
from tools.accuracy.results import ModelResult
from tools.accuracy.rungs import ModelReport
from tools.accuracy.tally import CONFUSION_CLASSES, Classification
from tools.accuracy.wording import (
    CLASS_HEADERS,
    RUNG_HEADERS,
    class_cells,
    findings,
    measures,
    rung_cells,
    weakest,
)
from tools.figures.accuracy import (
    class_recall,
    confusion_matrix,
    difference_histogram,
    rung_differences,
)
from tools.figures.style import svg_text
from tools.report.page import Page

_METHOD: Final = (
    "Each rung of the ladder changes one thing. files: every file is the one the plan was made "
    "with. cut: the partitions, optimisations off, against the whole graph that was cut. format: "
    "the same from an encrypted bundle. deployed: the bundle as it is shipped, with loading ahead, "
    "against the whole model as its owner has it. tls: a running appliance, asked over verified "
    "TLS, against the rung below. Bit-exact means equal element types, shapes and bits.",
    "The inputs of the ladder are labelled pictures where the model has some, seeded random "
    "tensors, and zeros, ones, large values and a ramp.",
    "On data, reference and partitions get the same inputs one request at a time. Intervals of a "
    "share are Wilson's, 95 %. Both classify the same pictures, so their difference is judged in "
    "pairs: its 95 % interval is Agresti and Min's, and McNemar's exact p is how often chance "
    "alone splits the pictures on which only one of them is right so unevenly. An allowed drop is "
    "compared with the observed one; the interval tells how sure that is.",
    "Equal scores are broken by the lower class number; NaN is never right.",
)


def build_page(
    results: Sequence[ModelResult], notes: Sequence[str], made_on: str, *, stopped: bool = False
) -> Page:
    """Puts the page together.

    Args:
        results: one per model.
        notes: what was passed over.
        made_on: when and where, in words.
        stopped: whether the rest wasn't checked, because somebody pressed Ctrl-C.
    """
    passed = all(result.passed for result in results)
    verdict = "Everything that was asked holds" if passed else "Not everything holds"
    if stopped:
        verdict = f"Stopped before the end; until then: {verdict.lower()}"
    page = Page("Accuracy of partitioned models", f"{verdict}. {made_on}")
    for result in results:
        page.heading(result.name)
        if result.error:
            page.paragraph(f"FAILED: {result.error}")
        if result.report is not None:
            _add_ladder(page, result.report)
        if result.evaluation is not None:
            _add_evaluation(page, result, result.evaluation)
    if notes:
        page.heading("Passed over")
        for note in notes:
            page.paragraph(note)
    page.heading("Method")
    for paragraph in _METHOD:
        page.paragraph(paragraph)
    return page


def _add_ladder(page: Page, report: ModelReport) -> None:
    page.table(
        RUNG_HEADERS,
        [rung_cells(rung) for rung in report.rungs],
        f"The ladder: {report.partitions} partitions against the whole model",
        numeric=range(2, 6),
    )
    for rung in report.rungs:
        if rung.passed is False:
            page.paragraph(f"{rung.name} FAILED: {rung.problem}")
        if rung.note:
            page.paragraph(f"{rung.name}: {rung.note}.")
    for note in report.notes:
        page.paragraph(f"Note: {note}.")
    compared = {rung.name: rung.differences for rung in report.rungs if rung.differences}
    if compared:
        worst = ", ".join(f"{name} {max(found):.2g}" for name, found in compared.items())
        page.figure(
            svg_text(rung_differences(compared, TOLERANCE)),
            f"Largest relative difference on each rung: {worst}.",
            "Every input on every rung. At the bottom line all bits are equal; the dashed line is "
            "what the rung 'deployed' accepts.",
        )


def _add_evaluation(page: Page, result: ModelResult, evaluation: Evaluation) -> None:
    page.heading(f"{result.name} on data")
    stopped = "" if evaluation.complete else " It was stopped before the end."
    page.paragraph(
        f"{evaluation.data} ({evaluation.kind}), {evaluation.examples} examples; the reference is "
        f"{evaluation.reference}.{stopped}"
    )
    if rows := measures(evaluation):
        page.table(
            ("measure", "reference", "partitions"),
            rows,
            "Right answers, with 95 % intervals",
            numeric=(1, 2),
        )
    for sentence in findings(evaluation):
        page.paragraph(sentence)
    for problem in evaluation.problems:
        page.paragraph(f"FAILED: {problem}.")
    for remark in evaluation.remarks:
        page.paragraph(f"Note: {remark}.")
    _add_given(page, evaluation)
    distances = evaluation.distances
    page.figure(
        svg_text(difference_histogram(distances.identical, distances.decades)),
        f"{distances.identical} of {evaluation.examples} examples without any difference; the "
        f"largest relative difference is {distances.largest:.2g}.",
        "How far the partitions' outputs are from the reference's: examples by their largest "
        "difference, as a share of the largest output. Each bar is a power of ten.",
    )
    if evaluation.classification is not None and evaluation.classification.rows:
        _add_classes(page, result, evaluation.classification)


def _add_given(page: Page, evaluation: Evaluation) -> None:
    if not evaluation.given:
        return
    page.table(
        ("example", "computed by", "output", "numbers", "beyond", "max. diff.", "result"),
        [
            (
                each.example,
                each.subject,
                each.tensor,
                each.elements,
                each.beyond,
                f"{each.absolute:.2g}",
                "holds" if each.passed else "FAILED",
            )
            for each in evaluation.given
        ],
        "Outputs that came with the data, against what is computed here",
        numeric=(3, 4, 5),
    )


def _add_classes(page: Page, result: ModelResult, found: Classification) -> None:
    chosen = weakest(found.rows, CONFUSION_CLASSES)
    names = [result.label(row.index) for row in chosen]
    few = "" if len(chosen) == len(found.rows) else ", the lowest of all classes"
    reference = [row.reference.recall or 0.0 for row in chosen]
    partitions = [row.partitions.recall or 0.0 for row in chosen]
    recalls = (
        f"{name} {100 * recall:.1f} %" for name, recall in zip(names, partitions, strict=True)
    )
    page.figure(
        svg_text(class_recall(names, reference, partitions)),
        f"Recall of the partitions by class: {', '.join(recalls)}.",
        f"Share of each class's pictures that are named rightly{few}.",
    )
    if found.confusion is not None:
        labels = [result.label(index) for index in range(found.classes)]
        right = sum(row[index] for index, row in enumerate(found.confusion))
        page.figure(
            svg_text(confusion_matrix(found.confusion, labels)),
            f"{right} of {sum(map(sum, found.confusion))} pictures lie on the diagonal.",
            "Confusion matrix of the partitions: each row is a true class, each column what it was "
            "named; the diagonal is right.",
        )
    page.table(
        CLASS_HEADERS,
        [class_cells(row, result.label(row.index)) for row in found.rows],
        "Recall: of the class's pictures, how many are named it. Precision: of those named it, how "
        "many are of the class",
        numeric=range(1, 6),
    )
