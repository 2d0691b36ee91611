"""How long a request waits, whether anybody still does, and where the time of an answer went."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from flask import request

from app.runner import RunResult
from app.server.wsgi import CLIENT_GONE, QUEUED_NS

SERVER_TIMING: Final = "Server-Timing"
"""W3C's header: names and milliseconds."""

_MOST_MS: Final = 9_999_999.9999
"""Nearly three hours. Every duration has as many digits, so that the header is always as long."""


def server_timing(result: RunResult, *, total_ns: int, decode_ns: int, encode_ns: int) -> str:
    """Gives the header's value.

    "wait" is the part of loading weights that the request noticed, "load" all of it: work of
    several threads, most of it hidden behind "run". What "total" has beyond the others is the
    time that the request waited for its turn.

    Args:
        result: of the model.
        total_ns: from when a worker had the body until the answer was ready to be sent.
        decode_ns: from when there was room for the tensors until they were read.
        encode_ns: from when the outputs were there until the answer was ready.
    """
    phases = {
        "total": total_ns,
        "decode": decode_ns,
        "wait": sum(each.wait_ns for each in result.timings),
        "run": sum(each.run_ns for each in result.timings),
        "encode": encode_ns,
        "load": sum(each.load_ns for each in result.timings),
    }
    return ", ".join(f"{name};dur={min(ns / 1e6, _MOST_MS):012.4f}" for name, ns in phases.items())


def is_gone() -> Callable[[], bool]:
    """Gives a function that says whether the present request's client has left."""
    gone: Callable[[], bool] = request.environ.get(CLIENT_GONE, lambda: False)
    return gone


def queued_ns() -> int:
    """Gives how long the present request has waited for a worker, in nanoseconds."""
    return int(request.environ.get(QUEUED_NS, 0))
