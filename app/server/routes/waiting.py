"""Who still waits for an answer, and since when."""

from __future__ import annotations

from collections.abc import Callable

from flask import request

from app.server.wsgi import CLIENT_GONE, QUEUED_NS


def is_gone() -> Callable[[], bool]:
    """Gives a function that says whether the present request's client has left."""
    found: Callable[[], bool] = request.environ.get(CLIENT_GONE, lambda: False)
    return found


def queued_ns() -> int:
    """Gives how long the present request has waited for a worker, in nanoseconds."""
    return int(request.environ.get(QUEUED_NS, 0))
