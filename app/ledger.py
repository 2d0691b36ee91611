"""Counts a model's memory against its budget, before it is allocated."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from app.errors import MemoryBudgetError


@dataclass(slots=True)
class Ledger:
    """Bytes accounted against the budget."""

    budget_bytes: int
    used_bytes: int = 0
    peak_bytes: int = 0

    def reserve(self, size_bytes: int, partition: int, phase: str) -> None:
        """Counts a buffer before it is allocated.

        Raises:
            MemoryBudgetError: when it doesn't fit.
        """
        required = self.used_bytes + size_bytes
        if required > self.budget_bytes:
            raise MemoryBudgetError(partition, phase, required, self.budget_bytes)
        self.used_bytes = required
        self.peak_bytes = max(self.peak_bytes, required)

    def release(self, size_bytes: int) -> None:
        """Gives a buffer's bytes back."""
        self.used_bytes -= size_bytes

    @contextmanager
    def run(self) -> Iterator[None]:
        """Gives a run a peak of its own and takes back, at its end, what it still has."""
        used_bytes = self.peak_bytes = self.used_bytes
        try:
            yield
        finally:
            self.used_bytes = used_bytes
