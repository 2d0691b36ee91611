"""Memory for request bodies: one bound for all connections, without a deadlock."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class Share:
    """What one body takes.

    Attributes:
        unreserved_bytes: still to come, no room reserved for it.
        reserved_bytes: reserved, whether received already or not.
    """

    unreserved_bytes: int
    reserved_bytes: int = 0


class Room:
    """Bytes that request bodies may take together.

    Room is reserved in small steps while there is plenty, so that a slow client
    holds little more than it has sent. The last part, as large as the largest
    body, is given only to a body that can be completed with it: however many
    bodies are half received, one can always be finished.

    Args:
        capacity_bytes: for all bodies together.
        largest_bytes: the largest body.
    """

    def __init__(self, capacity_bytes: int, largest_bytes: int) -> None:
        if capacity_bytes < largest_bytes:
            raise ValueError(
                f"room for {capacity_bytes} bytes can't hold a body of {largest_bytes} bytes"
            )
        self._capacity_bytes = capacity_bytes
        self._plenty_bytes = capacity_bytes - largest_bytes
        self.used_bytes = 0

    def reserve(self, share: Share, step_bytes: int) -> bool:
        """Reserves the next step of a body, or all of its rest; False when it has to wait."""
        size = min(step_bytes, share.unreserved_bytes)
        if self.used_bytes + size > self._plenty_bytes:
            size = share.unreserved_bytes
        if self.used_bytes + size > self._capacity_bytes:
            return False
        self.used_bytes += size
        share.reserved_bytes += size
        share.unreserved_bytes -= size
        return True

    def release(self, share: Share) -> None:
        """Takes a share back; a second time does nothing."""
        self.used_bytes -= share.reserved_bytes
        share.reserved_bytes = 0
        share.unreserved_bytes = 0
