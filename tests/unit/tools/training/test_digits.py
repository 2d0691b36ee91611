from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from tools.training.digits import Digits, first_of_each_class, split_by_class

label_lists = arrays(np.int64, st.integers(1, 200), elements=st.integers(0, 9))


@given(label_lists, st.integers(0, 1000))
def test_every_digit_is_in_exactly_one_part(labels: NDArray[np.int64], seed: int) -> None:
    split = split_by_class(labels, seed)
    together = np.concatenate([split.train, split.validation, split.test])
    assert sorted(together.tolist()) == list(range(len(labels)))


@given(label_lists, st.integers(0, 1000))
def test_every_class_has_its_share_of_every_part(labels: NDArray[np.int64], seed: int) -> None:
    split = split_by_class(labels, seed)
    for label in np.unique(labels):
        count = np.count_nonzero(labels == label)
        for part, share in ((split.train, 0.6), (split.validation, 0.2), (split.test, 0.2)):
            assert abs(np.count_nonzero(labels[part] == label) - share * count) <= 1


def test_the_seed_alone_decides_the_split() -> None:
    labels = np.arange(500, dtype=np.int64) % 10
    first, again, other = (split_by_class(labels, seed) for seed in (1, 1, 2))
    assert first.test.tolist() == again.test.tolist()
    assert first.test.tolist() != other.test.tolist()


@pytest.mark.parametrize(
    ("count", "expected"), [(1, [0, 1, 3]), (2, [0, 4, 1, 2, 3, 5]), (9, [0, 4, 1, 2, 3, 5])]
)
def test_samples_are_the_first_of_their_class(count: int, expected: list[int]) -> None:
    labels = np.array([0, 1, 1, 2, 0, 2], dtype=np.int64)
    assert first_of_each_class(labels, count).tolist() == expected


def test_a_part_keeps_each_value_with_its_label() -> None:
    values = np.arange(4.0)[:, np.newaxis, np.newaxis] * np.ones((1, 8, 8))
    part = Digits(values, np.array([5, 6, 7, 8], dtype=np.int64)).part(np.array([3, 1]))
    assert part.values[:, 0, 0].tolist() == [3, 1]
    assert part.labels.tolist() == [8, 6]
