"""What every kind of data gives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from app.tensors import Array


@dataclass(frozen=True, slots=True)
class Example:
    """One request with what is known about its answer.

    Attributes:
        name: for people.
        inputs: arrays by input name.
        labels: int64, the true class of each row of the request; None where there is none.
        expected: outputs by name that somebody else computed; None where there are none.
    """

    name: str
    inputs: Mapping[str, Array]
    labels: NDArray[np.int64] | None = None
    expected: Mapping[str, Array] | None = None


class DataSet(Protocol):
    """Examples that are read while they are asked for: memory holds one at a time."""

    @property
    def kind(self) -> str:
        """What it is, in words."""
        ...

    @property
    def count(self) -> int:
        """How many examples there are, skipped ones included."""
        ...

    @property
    def labelled(self) -> bool:
        """Whether the true classes are known."""
        ...

    @property
    def remarks(self) -> list[str]:
        """What was left out and why; complete once all examples were read."""
        ...

    def __iter__(self) -> Iterator[Example]:
        """Reads the examples in a fixed order."""
        ...
