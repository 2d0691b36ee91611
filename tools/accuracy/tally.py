"""Counts right answers of two classifiers on the same rows, in memory that doesn't grow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.tensors import Array
from tools.accuracy.intervals import Drop, Share, drop, share

TOP: Final = 5
"""The wider of the two usual measures; only asked of more classes than that."""

CONFUSION_CLASSES: Final = 20
"""Most classes of a confusion matrix: more can't be read."""

Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ClassScore:
    """One classifier on one class.

    Attributes:
        recall: share of the class's rows that were named it; None of no rows.
        precision: share of the rows named it that are of the class; None when none was.
    """

    recall: float | None
    precision: float | None


@dataclass(frozen=True, slots=True)
class ClassRow:
    """One class.

    Attributes:
        index: its number.
        support: rows that are of it.
        reference, partitions: how well each names it.
    """

    index: int
    support: int
    reference: ClassScore
    partitions: ClassScore


@dataclass(frozen=True, slots=True)
class Classification:
    """What was counted; all shares are of rows.

    Attributes:
        classes: how many the output has.
        reference_top1, partitions_top1: best class is the true one; None without labels.
        reference_top5, partitions_top5: the true class is among the best five; None without
            labels or with at most five classes.
        drop: of top-1 from the reference to the partitions; None without labels.
        agreement: both have the same best class.
        rows: per class that occurs, in order; empty without labels.
        confusion: [true class, class named by the partitions]; None without labels or with more
            than `CONFUSION_CLASSES` classes.
    """

    classes: int
    reference_top1: Share | None
    partitions_top1: Share | None
    reference_top5: Share | None
    partitions_top5: Share | None
    drop: Drop | None
    agreement: Share | None
    rows: tuple[ClassRow, ...]
    confusion: tuple[tuple[int, ...], ...] | None


class Tally:
    """Adds up, row by row.

    Args:
        classes: how many the outputs have; at least 2.
    """

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self._rows = self._agreeing = self._labelled = 0
        self._first_only = self._second_only = 0
        self._reference, self._partitions = _Side(classes), _Side(classes)
        self._support = np.zeros(classes, dtype=np.int64)
        small = classes <= CONFUSION_CLASSES
        self._confusion = np.zeros((classes, classes), dtype=np.int64) if small else None

    def add(self, reference: Array, partitions: Array, labels: Counts | None) -> None:
        """Counts some rows.

        Args:
            reference: scores, [rows, classes].
            partitions: scores for the same rows.
            labels: true classes, [rows]; None when they aren't known.
        """
        one, two = best_class(reference), best_class(partitions)
        self._rows += one.size
        self._agreeing += int(np.count_nonzero((one == two) & (one >= 0)))
        if labels is None:
            return
        self._labelled += labels.size
        np.add.at(self._support, labels, 1)
        right_one = self._reference.add(reference, one, labels)
        right_two = self._partitions.add(partitions, two, labels)
        self._first_only += int(np.count_nonzero(right_one & ~right_two))
        self._second_only += int(np.count_nonzero(right_two & ~right_one))
        if self._confusion is not None:
            named = two >= 0
            np.add.at(self._confusion, (labels[named], two[named]), 1)

    def result(self) -> Classification:
        """Gives what was counted so far."""
        total, wide = self._labelled, self._labelled if self.classes > TOP else 0
        counted = total > 0 and self._confusion is not None
        return Classification(
            classes=self.classes,
            reference_top1=share(self._reference.right, total),
            partitions_top1=share(self._partitions.right, total),
            reference_top5=share(self._reference.near, wide),
            partitions_top5=share(self._partitions.near, wide),
            drop=drop(self._first_only, self._second_only, total),
            agreement=share(self._agreeing, self._rows),
            rows=tuple(self._row(int(index)) for index in np.flatnonzero(self._seen())),
            confusion=_nested(self._confusion) if counted else None,
        )

    def _seen(self) -> Counts:
        return self._support + self._reference.named + self._partitions.named

    def _row(self, index: int) -> ClassRow:
        support = int(self._support[index])
        return ClassRow(
            index, support, self._reference.score(index, support),
            self._partitions.score(index, support),
        )  # fmt: skip


class _Side:
    """One classifier's counts."""

    def __init__(self, classes: int) -> None:
        self.right = self.near = 0
        self.hits = np.zeros(classes, dtype=np.int64)
        self.named = np.zeros(classes, dtype=np.int64)

    def add(self, scores: Array, best: Counts, labels: Counts) -> NDArray[np.bool_]:
        right: NDArray[np.bool_] = best == labels
        self.right += int(np.count_nonzero(right))
        self.near += int(np.count_nonzero(rank(scores, labels) < TOP))
        np.add.at(self.hits, labels[right], 1)
        np.add.at(self.named, best[best >= 0], 1)
        return right

    def score(self, index: int, support: int) -> ClassScore:
        hits, named = int(self.hits[index]), int(self.named[index])
        return ClassScore(hits / support if support else None, hits / named if named else None)


def score_rows(output: Array) -> Array | None:
    """Gives an output as scores, [rows, classes]; None when it can't be scores.

    Args:
        output: floats; dimensions of 1 behind the classes, as of a pooled picture, are dropped.
    """
    while output.ndim > 2 and output.shape[-1] == 1:
        output = output[..., 0]
    if output.ndim < 2 or output.shape[-1] < 2 or output.dtype.kind != "f":
        return None
    rows: Array = output.reshape(-1, output.shape[-1])
    return rows


def best_class(scores: Array) -> Counts:
    """Gives each row's class of the highest score, the first of equals; -1 where all are NaN."""
    best: Counts = np.where(np.isnan(scores), -np.inf, scores).argmax(axis=1)
    best[np.isnan(scores).all(axis=1)] = -1
    return best


def rank(scores: Array, labels: Counts) -> Counts:
    """Gives how many classes come before the true one in each row; NaN comes last."""
    own = np.take_along_axis(scores, labels[:, np.newaxis], axis=1)
    before = np.arange(scores.shape[1]) < labels[:, np.newaxis]
    ahead: Counts = ((scores > own) | ((scores == own) & before)).sum(axis=1)
    return np.where(np.isnan(own[:, 0]), scores.shape[1], ahead)


def _nested(matrix: Counts | None) -> tuple[tuple[int, ...], ...] | None:
    return None if matrix is None else tuple(tuple(row) for row in matrix.tolist())
