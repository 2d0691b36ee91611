"""The endpoint in use, replaced when its files change and when its ticket keys are old."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from app.errors import ConfigError
from app.limits import TICKET_KEY_S
from app.server import logs
from app.server.certificate import ServerIdentity
from app.server.logs import Event
from app.server.tls.channel import Channel, MakeEndpoint

LOOK_S: Final = 1.0
"""How often the files are looked at while clients come: one stat of each."""

_Seen = tuple[tuple[int, int, int] | None, ...]
"""Time of change in ns, size and inode of each file; None for one that can't be looked at."""


@dataclass(frozen=True, slots=True)
class Material:
    """What an endpoint is made of.

    Attributes:
        identity: certificate and key.
        client_ca_pem: certificates that client certificates must lead to, if those count.
    """

    identity: ServerIdentity
    client_ca_pem: bytes | None = None


class RenewedEndpoint:
    """Makes channels with what the files hold now. For one thread, the event loop's.

    It looks when a client connects: what nobody would meet needn't be loaded. Connections that
    are open keep the certificate that they began with. What can't be used is logged once and
    what is in use goes on serving, also while one of two files is replaced and the other isn't yet.

    Args:
        make: of one library.
        load: reads the files.
        files: those that it reads; none where nothing can change.
        clock: monotonic, in seconds.

    Raises:
        ConfigError: the first material can't be used.
    """

    def __init__(
        self,
        make: MakeEndpoint,
        load: Callable[[], Material],
        files: Sequence[Path] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._make = make
        self._load = load
        self._files = tuple(files)
        self._clock = clock
        self._seen = self._look()
        self._next_look = clock() + LOOK_S
        self._stale_at = clock() + TICKET_KEY_S
        self._use(load())

    @property
    def identity(self) -> ServerIdentity:
        """Certificate and key of new connections."""
        return self._material.identity

    def channel(self) -> Channel:
        """Makes the channel of a new connection."""
        now = self._clock()
        if now >= self._next_look:
            self._next_look = now + LOOK_S
            self._renew(now)
        return self._endpoint.channel()

    def _renew(self, now: float) -> None:
        seen = self._look()
        changed = seen != self._seen
        if not changed and now < self._stale_at:
            return
        self._seen = seen
        self._stale_at = now + TICKET_KEY_S
        try:
            self._use(self._load() if changed else self._material)
        except ConfigError as error:
            logs.write(logging.ERROR, Event.CERTIFICATE_KEPT, error=error)
            return
        if changed:
            fingerprint = self.identity.fingerprint
            logs.write(logging.INFO, Event.CERTIFICATE_RENEWED, fingerprint=fingerprint)

    def _use(self, material: Material) -> None:
        self._endpoint = self._make(material.identity, material.client_ca_pem)
        self._material = material

    def _look(self) -> _Seen:
        return tuple(_stamp(file) for file in self._files)


def _stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
