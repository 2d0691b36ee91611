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

    def reserve(self, size_bytes: int, partition: int, phase: str) -> None:
        """Counts a buffer before it is allocated.

        Raises:
            MemoryBudgetError: when it doesn't fit.
        """
        required = self.used_bytes + size_bytes
        if required > self.budget_bytes:
            raise MemoryBudgetError(partition, phase, required, self.budget_bytes)
        self.used_bytes = required

    def release(self, size_bytes: int) -> None:
        """Gives a buffer's bytes back."""
        self.used_bytes -= size_bytes

    @contextmanager
    def run(self) -> Iterator[None]:
        """Takes back, at a run's end, what it still has."""
        used_bytes = self.used_bytes
        try:
            yield
        finally:
            self.used_bytes = used_bytes
