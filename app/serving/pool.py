"""A bounded amount of something that clients share: bytes of memory, or places.

Nobody holds more than is left for the others at that moment: dynamic thresholds with factor one
(Choudhury and Hahne, IEEE/ACM Transactions on Networking, 1998). One client alone gets half; who
comes next finds the other half, of which it gets half; where what is held comes back all the time,
all get the same. Nobody's part has to be known beforehand, and nothing has to be taken away.
"""

from __future__ import annotations

from collections import Counter


class Pool:
    """What is taken, by client. Used by one thread, or under the caller's lock.

    Args:
        capacity: of everybody together.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._held: Counter[str] = Counter()
        self.used = 0

    def has_room(self, client: str, amount: int) -> bool:
        """Says whether the client may take so much more: it then holds no more than is left."""
        return self.used + self._held[client] + 2 * amount <= self._capacity

    def holds(self, client: str) -> int:
        """Returns how much the client has."""
        return self._held[client]

    def take(self, client: str, amount: int) -> bool:
        """Takes so much, or nothing where there isn't room; `give_back` has to follow."""
        if not self.has_room(client, amount):
            return False
        self.add(client, amount)
        return True

    def add(self, client: str, amount: int) -> None:
        """Counts what is there already, be it more than there is room for."""
        self._held[client] += amount
        self.used += amount

    def give_back(self, client: str, amount: int) -> None:
        """Takes back what was taken or added."""
        self.used -= amount
        self._held[client] -= amount
        if not self._held[client]:
            del self._held[client]  # so that names don't pile up

    def overdrawn(self) -> str | None:
        """Returns who holds most, while more is held than there is."""
        if self.used <= self._capacity:
            return None
        return max(self._held, key=lambda client: self._held[client])
