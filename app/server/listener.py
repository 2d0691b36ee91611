"""The listening socket, registered with the event loop's selector."""

from __future__ import annotations

import logging
import selectors
import socket
from collections.abc import Iterator
from typing import Final

from app.errors import ConfigError
from app.server import logs
from app.server.logs import Event

_ACCEPTS_PER_TURN: Final = 8
_NO_ROOM_S: Final = 0.25
"""Until the system may have room for a connection again."""

_BACKLOG: Final = 128


class Listener:
    """Accepts connections; pauses when it is told to, or the system can't give any.

    Args:
        selector: watches the socket, with None as its data.
    """

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._selector = selector
        self._socket: socket.socket | None = None
        self._resume_at: float | None = None
        """While it pauses; the selector watches the socket else."""

    def patience_s(self, now: float) -> float | None:
        """Gives how long until `resume` is to be called; None while it needn't be."""
        return None if self._resume_at is None else max(0.0, self._resume_at - now)

    def open(self, address: tuple[str, int]) -> tuple[str, int]:
        """Listens; gives the real address, as port 0 asks for a free one.

        Raises:
            ConfigError: the address can't be used.
        """
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        try:
            self._socket = socket.create_server(address, family=family, backlog=_BACKLOG)
        except OSError as error:
            raise ConfigError(
                f"listen address {address[0]}:{address[1]}", [error.strerror or str(error)]
            ) from error
        self._socket.setblocking(False)
        self._selector.register(self._socket, selectors.EVENT_READ, None)
        host, port = self._socket.getsockname()[:2]
        return host, port

    def accept(self, now: float) -> Iterator[tuple[socket.socket, tuple[str, int]]]:
        """Gives waiting connections with their addresses, a bounded number per call."""
        for _ in range(_ACCEPTS_PER_TURN):
            if self._socket is None:
                return
            try:
                client, address = self._socket.accept()
            except BlockingIOError:
                return
            except ConnectionError:
                continue  # that client left while it was waiting
            except OSError as error:
                logs.write(logging.WARNING, Event.ACCEPTING_PAUSED, error=error)
                self.pause(now + _NO_ROOM_S)
                return
            yield client, (address[0], address[1])

    def pause(self, until: float) -> None:
        """Leaves new connections waiting; the system refuses those for which it has no room."""
        if self._socket is not None and self._resume_at is None:
            self._selector.unregister(self._socket)
        self._resume_at = until

    def resume(self, now: float) -> None:
        """Watches for connections again when the pause is over."""
        if self._socket is not None and self._resume_at is not None and now >= self._resume_at:
            self._selector.register(self._socket, selectors.EVENT_READ, None)
            self._resume_at = None

    def close(self) -> None:
        """Stops listening; new clients are refused by the system."""
        self.pause(0.0)
        if self._socket is not None:
            self._socket.close()
        self._socket = self._resume_at = None
