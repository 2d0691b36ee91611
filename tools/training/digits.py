"""The handwritten digits that ship inside scikit-learn, and their split.

1,797 pictures of 8x8 pixels with values 0..16, light ink on dark ground: the
test part of "Optical Recognition of Handwritten Digits" (E. Alpaydin and
C. Kaynak, 1998, UCI Machine Learning Repository, CC BY 4.0). No two pictures
are equal. 13 people wrote them, but the data set doesn't say who wrote which,
so a writer may be in several parts of the split: the test accuracy is one for
known writers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

LABELS: Final = tuple(str(digit) for digit in range(10))
SOURCE: Final = (
    "sklearn.datasets.load_digits: Optical Recognition of Handwritten Digits, "
    "E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, CC BY 4.0"
)
TRAIN_SHARE: Final = 0.6
VALIDATION_SHARE: Final = 0.2


@dataclass(frozen=True)
class Digits:
    """Labelled digits.

    Attributes:
        values: float64 [N, 8, 8], 0 (ground) to 16 (full ink).
        labels: int64 [N], indices into `LABELS`.
    """

    values: NDArray[np.float64]
    labels: NDArray[np.int64]

    def part(self, indices: NDArray[np.int64]) -> Digits:
        """The digits at `indices`, in that order."""
        return Digits(self.values[indices], self.labels[indices])


@dataclass(frozen=True)
class Split:
    """Indices of the three parts, each ascending: disjoint, together everything."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


def load() -> Digits:
    """The whole data set, in scikit-learn's order; needs scikit-learn, no network."""
    from sklearn.datasets import load_digits  # noqa: PLC0415 - an optional library

    data: Any = load_digits()
    return Digits(data.images.astype(np.float64), data.target.astype(np.int64))


def split_by_class(labels: NDArray[np.int64], seed: int) -> Split:
    """Splits every class into 60 % train, 20 % validation, the rest test.

    Args:
        labels: int [N].
        seed: the same labels and seed give the same split.

    Returns:
        The split; a share is rounded to the nearest whole number per class.
    """
    rng = np.random.default_rng(seed)
    parts: tuple[list[NDArray[np.int64]], ...] = ([], [], [])
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        train_end = round(TRAIN_SHARE * len(members))
        validation_end = round((TRAIN_SHARE + VALIDATION_SHARE) * len(members))
        for part, chosen in zip(parts, np.split(members, [train_end, validation_end]), strict=True):
            part.append(chosen)
    return Split(*(np.sort(np.concatenate(part)) for part in parts))


def first_of_each_class(labels: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Indices of the first `count` members of every class, class by class: no choice is made."""
    return np.concatenate([np.flatnonzero(labels == label)[:count] for label in np.unique(labels)])
