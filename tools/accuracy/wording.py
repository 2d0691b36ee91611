"""Numbers and findings in words, the same in the terminal and on the page."""

from __future__ import annotations

from collections.abc import Sequence

from tools.accuracy.evaluation import Evaluation
from tools.accuracy.intervals import Drop, Share
from tools.accuracy.rungs import Rung
from tools.accuracy.tally import ClassRow

RUNG_HEADERS = ("rung", "asked", "inputs", "max. diff.", "relative", "top-1", "result")
CLASS_HEADERS = (
    "class",
    "support",
    "recall, reference",
    "recall, partitions",
    "precision, reference",
    "precision, partitions",
)


def percent(value: float | None) -> str:
    """Gives a share in percent."""
    return "–" if value is None else f"{100 * value:.4g} %"


def share_text(found: Share | None) -> str:
    """Gives a share with its interval."""
    if found is None:
        return "–"
    return f"{percent(found.value)} ({100 * found.low:.4g} to {100 * found.high:.4g})"


def rung_result(rung: Rung) -> str:
    """Says how a rung ended."""
    return {True: "holds", False: "FAILED", None: "not reached"}[rung.passed]


def rung_cells(rung: Rung) -> tuple[str, ...]:
    """Gives a row below `RUNG_HEADERS`."""
    numbers = ("", "", "", "")
    if rung.cases:
        numbers = (
            str(rung.cases),
            f"{rung.absolute:.2g}",
            f"{rung.relative:.2g}",
            percent(rung.top1_agreement),
        )
    return (rung.name, rung.criterion, *numbers, rung_result(rung))


def class_cells(row: ClassRow, label: str) -> tuple[str, ...]:
    """Gives a row below `CLASS_HEADERS`."""
    return (
        label,
        str(row.support),
        percent(row.reference.recall),
        percent(row.partitions.recall),
        percent(row.reference.precision),
        percent(row.partitions.precision),
    )


def measures(evaluation: Evaluation) -> list[tuple[str, str, str]]:
    """Gives rows of (measure, reference, partitions)."""
    found = evaluation.classification
    if found is None or found.reference_top1 is None:
        return []
    rows = [("top-1", share_text(found.reference_top1), share_text(found.partitions_top1))]
    if found.reference_top5 is not None:
        rows.append(("top-5", share_text(found.reference_top5), share_text(found.partitions_top5)))
    return rows


def findings(evaluation: Evaluation) -> list[str]:
    """Says in sentences what the data told beside the measures."""
    said = []
    found = evaluation.classification
    if found is not None and found.agreement is not None:
        agreement = found.agreement
        said.append(
            f"Same best class in {agreement.count} of {agreement.total} rows: "
            f"{share_text(agreement)}."
        )
    if found is not None and found.drop is not None:
        said.append(_drop(found.drop))
        said += _decision(found.drop, evaluation.criteria.max_drop)
    distances = evaluation.distances
    said.append(
        f"Outputs: {distances.identical} of {evaluation.examples} examples without any difference, "
        f"the largest relative difference is {distances.largest:.2g}."
    )
    if evaluation.given:
        tolerance = evaluation.criteria.tolerance
        held = sum(each.passed for each in evaluation.given)
        said.append(
            f"Given outputs: {held} of {len(evaluation.given)} comparisons hold within "
            f"{tolerance.atol:g} + {tolerance.rtol:g} × |given|."
        )
    return said


def _drop(found: Drop) -> str:
    return (
        f"Drop of top-1: {_points(found.value)} points (95 % interval {_points(found.low)} to "
        f"{_points(found.high)}); right only in the reference: {found.first_only}, only in the "
        f"partitions: {found.second_only}; McNemar's exact p = {found.p_value:.3g}."
    )


def _decision(found: Drop, most: float | None) -> list[str]:
    """The observed drop decides; the interval says how much of that is chance."""
    if most is None:
        return []
    if found.value > most:
        sure = "and the whole interval is" if found.low > most else "but part of the interval isn't"
        return [f"That is above the allowed {_points(most)} points, {sure}."]
    sure = "and so is the whole interval" if found.high <= most else (
        "but the interval reaches beyond: more pictures would make it sure"
    )  # fmt: skip
    return [f"That is within the allowed {_points(most)} points, {sure}."]


def _points(value: float) -> str:
    return f"{100 * value:.3g}"


def weakest(rows: Sequence[ClassRow], count: int) -> list[ClassRow]:
    """Gives the classes with the lowest recall of the partitions, all in order when they are few.

    Args:
        rows: classes; those without rows of their own are left out.
        count: most to give.
    """
    own = [row for row in rows if row.support]
    if len(own) <= count:
        return own
    return sorted(own, key=lambda row: (row.partitions.recall or 0.0, row.index))[:count]
