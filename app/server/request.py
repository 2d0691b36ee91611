"""A complete request on its way to a worker."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO

from app.access.admission import OPEN_TENANT, Admission, Pass
from app.server.framing import Head
from app.server.room import Room, Share


@dataclass(slots=True, eq=False)
class Request:
    """A complete request on its way to a worker.

    Attributes:
        head: checked.
        body: whole, at its start. `read()` of everything copies nothing.
        address: the client's host and port.
        share: the room that the body takes until the answer is there.
        entry: how it was let in.
        abandoned: the client is gone, nobody will read the answer. Set by the event loop.
    """

    head: Head
    body: BytesIO
    address: tuple[str, int]
    share: Share
    entry: Pass
    abandoned: bool = False

    @property
    def admission(self) -> Admission | None:
        """Who asks, and what for; None where nobody has to say."""
        return self.entry.admission

    @property
    def tenant(self) -> str:
        """Whose share of the workers it takes: a tenant's, or an address's where all are one."""
        known = self.admission
        if known is None or known.tenant == OPEN_TENANT.name:
            return self.address[0]
        return known.tenant

    @property
    def missing_bytes(self) -> int:
        """What is still to come of the body, while it is being received."""
        return self.head.body_bytes - self.body.tell()

    def release(self, room: Room) -> None:
        """Gives back what it takes of the room and of its tenant's quota; again does nothing."""
        room.release(self.share)
        self.entry.release()
