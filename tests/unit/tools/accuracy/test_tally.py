"""Counting in pieces gives what counting everything at once, one by one, gives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tools.accuracy.tally import Tally, best_class, rank, score_rows

NAN, INF = np.nan, np.inf


@settings(max_examples=40)
@given(st.integers(2, 30), st.integers(1, 40), st.integers(0, 2**32 - 1), st.integers(1, 9))
def test_against_counting_one_by_one(classes: int, rows: int, seed: int, piece: int) -> None:
    rng = np.random.default_rng(seed)
    # Few different values, so that there are ties.
    one, two = rng.integers(0, 4, (2, rows, classes)).astype(np.float32)
    labels = rng.integers(0, classes, rows)
    tally = Tally(classes)
    for start in range(0, rows, piece):
        part = slice(start, start + piece)
        tally.add(one[part], two[part], labels[part])
    found = tally.result()

    orders = [[np.argsort(-row, kind="stable").tolist() for row in side] for side in (one, two)]
    first, second = [[order[0] for order in side] for side in orders]
    right = [a == label for a, label in zip(first, labels, strict=True)]
    right_two = [b == label for b, label in zip(second, labels, strict=True)]
    assert found.reference_top1 is not None
    assert found.partitions_top1 is not None
    assert found.agreement is not None
    assert found.drop is not None
    assert found.reference_top1.count == sum(right)
    assert found.partitions_top1.count == sum(right_two)
    assert found.agreement.count == sum(a == b for a, b in zip(first, second, strict=True))
    assert found.drop.first_only == sum(a and not b for a, b in zip(right, right_two, strict=True))
    assert found.drop.value == pytest.approx((sum(right) - sum(right_two)) / rows)
    if classes > 5:
        near = [label in order[:5] for label, order in zip(labels, orders[1], strict=True)]
        assert found.partitions_top5 is not None
        assert found.partitions_top5.count == sum(near)
    else:
        assert found.partitions_top5 is None
    assert sum(row.support for row in found.rows) == rows
    if classes <= 20:
        assert found.confusion is not None
        assert sum(map(sum, found.confusion)) == rows
        assert sum(row[i] for i, row in enumerate(found.confusion)) == sum(right_two)
    else:
        assert found.confusion is None


def test_best_classes() -> None:
    assert best_class(np.array([[1.0, 3, 2], [5, 0, 0], [2, 4, 4]])).tolist() == [1, 0, 1]


def test_recall_and_precision() -> None:
    tally = Tally(3)
    scores = np.eye(3)[[0, 0, 1, 0]]
    tally.add(np.eye(3)[[0, 0, 1, 1]], scores, np.array([0, 0, 1, 1]))
    zero, one = tally.result().rows
    assert (zero.index, zero.support) == (0, 2)
    assert zero.partitions.recall == 1
    assert zero.partitions.precision == pytest.approx(2 / 3)
    assert (one.partitions.recall, one.partitions.precision) == (0.5, 1)
    assert (one.reference.recall, one.reference.precision) == (1, 1)


def test_nan_is_never_right() -> None:
    scores = np.array([[NAN, NAN], [NAN, 1.0], [NAN, -INF]])
    assert best_class(scores).tolist() == [-1, 1, 0]
    assert rank(scores, np.array([0, 0, 0])).tolist() == [2, 2, 2]
    tally = Tally(2)
    tally.add(scores[:1], scores[:1], np.array([0]))
    found = tally.result()
    assert found.partitions_top1 is not None
    assert found.agreement is not None
    assert found.partitions_top1.count == found.agreement.count == 0


def test_without_labels_only_agreement() -> None:
    tally = Tally(4)
    tally.add(np.eye(4), np.eye(4), None)
    found = tally.result()
    assert found.agreement is not None
    assert found.agreement.count == 4
    for counted_on_labels in (found.reference_top1, found.drop, found.confusion):
        assert counted_on_labels is None
    assert found.rows == ()


@pytest.mark.parametrize(
    ("shape", "rows"),
    [
        ((2, 10), (2, 10)),
        ((2, 10, 1, 1), (2, 10)),
        ((1, 7, 10), (7, 10)),
        ((3, 1), None),
        ((5,), None),
    ],
)
def test_what_counts_as_scores(shape: tuple[int, ...], rows: tuple[int, ...] | None) -> None:
    found = score_rows(np.ones(shape, np.float32))
    assert (None if found is None else found.shape) == rows
    assert score_rows(np.ones(shape, np.int64)) is None
