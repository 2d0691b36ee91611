"""The requests of one run: those that are still in it, and those that left it with an error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from app.errors import CancelledError, ExecutionError


class Values(dict[str, Any]):
    """The engine's live values of one request, by name.

    Attributes:
        used_bytes: what they take.
        peak_bytes: the most that they and a running partition took at one moment.
    """

    __slots__ = ("peak_bytes", "used_bytes")

    def __init__(self) -> None:
        super().__init__()
        self.used_bytes = self.peak_bytes = 0

    def count(self, size_bytes: int) -> None:
        """Counts bytes that came, or left if negative."""
        self.used_bytes += size_bytes
        self.note(0)

    def note(self, more_bytes: int) -> None:
        """Notes that so much more than the values was taken for a moment."""
        self.peak_bytes = max(self.peak_bytes, self.used_bytes + more_bytes)


class Batch:
    """Requests by their number. One that fails leaves the batch, the others don't notice.

    Args:
        size: how many there are at first.
        forget: takes back what the values of a request that leaves are accounted for.

    Attributes:
        values: of the requests that are in the batch, in the order of their numbers.
        failed: why the others left.
    """

    def __init__(self, size: int, forget: Callable[[Values], None]) -> None:
        self._forget = forget
        self.values: dict[int, Values] = {number: Values() for number in range(size)}
        self.failed: dict[int, ExecutionError] = {}

    def each(self, step: Callable[[int, Values], None]) -> None:
        """Does a step for every request that is in the batch.

        Args:
            step: gets a request's number and values; its ExecutionError is that request's end.
        """
        for number, values in list(self.values.items()):
            try:
                step(number, values)
            except ExecutionError as error:
                self._leave(number, error)

    def give_up(self, cancelled: Callable[[int], bool], partition: int) -> None:
        """Asks for every request, before a partition, whether somebody still waits for it."""
        for number in list(self.values):
            if cancelled(number):
                self._leave(number, CancelledError(partition))

    def _leave(self, number: int, error: ExecutionError) -> None:
        self.failed[number] = error
        self._forget(self.values.pop(number))
